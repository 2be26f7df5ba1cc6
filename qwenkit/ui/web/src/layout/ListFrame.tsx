/** The left column on wide screens, a drawer on narrow ones. */

import { type ReactNode, Suspense } from "react";

import { me } from "../state/me";
import { openDialog, sidebar } from "../state/panels";
import { openFeedback, openNewThread } from "../state/route";
import { useNarrow } from "../state/screen";
import { useStore } from "../state/store";
import { Button, Drawer, ErrorBoundary, IconButton, Spinner } from "../ui";

export function ListFrame({ children }: { children: (onPick: () => void) => ReactNode }) {
  const narrow = useNarrow();
  const open = useStore(sidebar) ?? !narrow;
  if (!open) return null;
  if (narrow) {
    const close = () => sidebar.set(null);
    return (
      <Drawer title="Conversations" side="left" onClose={close} bare>
        <ListColumn onPick={close}>{children(close)}</ListColumn>
      </Drawer>
    );
  }
  return (
    <nav className="app-list" aria-label="Conversations">
      <ListColumn onPick={() => undefined}>{children(() => undefined)}</ListColumn>
    </nav>
  );
}

function ListColumn({ onPick, children }: { onPick: () => void; children: ReactNode }) {
  const then = (act: () => void) => () => {
    onPick();
    act();
  };
  return (
    <div className="flex min-h-0 flex-1 flex-col bg-soft">
      <div className="flex items-center gap-2 p-3 pb-2">
        <Button kind="outline" icon="plus" className="flex-1" onClick={then(openNewThread)}>
          New chat
        </Button>
        <IconButton icon="left" label="Hide conversations" onClick={() => sidebar.set(false)} />
      </div>
      <div className="flex min-h-0 flex-1 flex-col">
        <ErrorBoundary>
          <Suspense fallback={<Spinner label="Loading conversations" />}>{children}</Suspense>
        </ErrorBoundary>
      </div>
      <ListFoot then={then} />
    </div>
  );
}

function ListFoot({ then }: { then: (act: () => void) => () => void }) {
  const known = useStore(me);
  return (
    <div className="flex items-center gap-1 border-t p-2">
      {known?.features.feedback && known.role === "admin" && (
        <Button icon="chart" className="flex-1 justify-start" onClick={then(openFeedback)}>
          Feedback
        </Button>
      )}
      <IconButton
        icon="keyboard"
        label="Keyboard shortcuts"
        className="ml-auto"
        onClick={then(() => openDialog("shortcuts"))}
      />
    </div>
  );
}
