/** The page: thread list, chat or feedback, panels and dialogs. What isn't seen at first is loaded
 * when it is opened.
 */

import { lazy, Suspense, useEffect } from "react";

import { describeError } from "./api/http";
import { Chat } from "./chat/Chat";
import { Header } from "./layout/Header";
import { ListFrame } from "./layout/ListFrame";
import { PanelFrame } from "./layout/PanelFrame";
import { useShortcuts } from "./layout/useShortcuts";
import { keyRequest } from "./state/key";
import { refreshMe } from "./state/me";
import { refreshModels } from "./state/models";
import { closeDialog, dialog, panel } from "./state/panels";
import { chatKey, route } from "./state/route";
import { useStore } from "./state/store";
import { showToast } from "./state/toasts";
import { ErrorBoundary, Spinner, Toasts } from "./ui";

const ThreadList = lazy(async () => ({
  default: (await import("./threads/ThreadList")).ThreadList,
}));
const SettingsPanel = lazy(async () => ({
  default: (await import("./settings/SettingsPanel")).SettingsPanel,
}));
const ServersPanel = lazy(async () => ({
  default: (await import("./servers/ServersPanel")).ServersPanel,
}));
const FeedbackPage = lazy(async () => ({
  default: (await import("./feedback/FeedbackPage")).FeedbackPage,
}));
const ExportDialog = lazy(async () => ({
  default: (await import("./export/ExportDialog")).ExportDialog,
}));
const KeyDialog = lazy(async () => ({ default: (await import("./key/KeyDialog")).KeyDialog }));
const ShortcutsDialog = lazy(async () => ({
  default: (await import("./shortcuts/ShortcutsDialog")).ShortcutsDialog,
}));

export function App() {
  useShortcuts();
  useEffect(() => {
    refreshMe()
      .then(refreshModels)
      .catch((error: unknown) => showToast(describeError(error), "error"));
  }, []);
  return (
    <div className="app">
      <a className="skip-link" href="#main" onClick={focusMain}>
        Skip to the conversation
      </a>
      <ListFrame>{(onPick) => <ThreadList onPick={onPick} />}</ListFrame>
      <Main />
      <OpenPanel />
      <OpenDialogs />
      <Toasts />
    </div>
  );
}

function focusMain(event: { preventDefault(): void }): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Main() {
  const { page } = useStore(route);
  const shown = useStore(chatKey);
  return (
    <main id="main" tabIndex={-1} className="app-main">
      <Header />
      <ErrorBoundary key={`${page} ${shown}`}>
        <Suspense fallback={<Spinner label="Loading" />}>
          {page === "feedback" ? <FeedbackPage /> : <Chat />}
        </Suspense>
      </ErrorBoundary>
    </main>
  );
}

function OpenPanel() {
  const open = useStore(panel);
  if (open === "settings") {
    return (
      <PanelFrame title="Settings">
        <SettingsPanel />
      </PanelFrame>
    );
  }
  if (open === "servers") {
    return (
      <PanelFrame title="MCP servers">
        <ServersPanel />
      </PanelFrame>
    );
  }
  return null;
}

function OpenDialogs() {
  const open = useStore(dialog);
  const asked = useStore(keyRequest);
  return (
    <Suspense fallback={null}>
      {open === "export" && <ExportDialog onClose={closeDialog} />}
      {open === "shortcuts" && <ShortcutsDialog onClose={closeDialog} />}
      {asked && <KeyDialog />}
    </Suspense>
  );
}
