/** Where a panel is: beside the chat on wide screens, over it on narrow ones. */

import { type ReactNode, Suspense } from "react";

import { panel } from "../state/panels";
import { useNarrow } from "../state/screen";
import { Drawer, ErrorBoundary, IconButton, Spinner } from "../ui";

export function PanelFrame({ title, children }: { title: string; children: ReactNode }) {
  const close = () => panel.set(null);
  const content = (
    <ErrorBoundary>
      <Suspense fallback={<Spinner label="Loading" />}>{children}</Suspense>
    </ErrorBoundary>
  );
  if (useNarrow()) {
    return (
      <Drawer title={title} side="right" onClose={close}>
        {content}
      </Drawer>
    );
  }
  return (
    <aside className="app-panel" aria-label={title}>
      <header className="flex items-center justify-between py-3 pr-3 pl-5">
        <h2 className="text-[17px] font-semibold">{title}</h2>
        <IconButton icon="close" label={`Close ${title}`} onClick={close} />
      </header>
      <div className="min-h-0 flex-1 overflow-y-auto">{content}</div>
    </aside>
  );
}
