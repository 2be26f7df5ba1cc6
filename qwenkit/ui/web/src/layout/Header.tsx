/** The bar above the chat: what is shown, and the way to the panels. */

import { me } from "../state/me";
import { openDialog, panel, type Panel, sidebar, togglePanel } from "../state/panels";
import { openChat, openNewThread, route } from "../state/route";
import { useNarrow } from "../state/screen";
import { useStore } from "../state/store";
import { Button, IconButton } from "../ui";

export function Header() {
  const { page } = useStore(route);
  const narrow = useNarrow();
  const listed = useStore(sidebar) ?? !narrow;
  return (
    <header className="header">
      {!listed && (
        <>
          <IconButton icon="menu" label="Show conversations" onClick={() => sidebar.set(true)} />
          <IconButton icon="plus" label="New chat" onClick={openNewThread} />
        </>
      )}
      <span className="flex-1 truncate px-1 font-semibold">qwenkit</span>
      {page === "feedback" ? (
        <BackButton narrow={narrow} />
      ) : (
        <IconButton icon="download" label="Export" onClick={() => openDialog("export")} />
      )}
      <ServersButton />
      <PanelButton name="settings" icon="settings" label="Settings" />
    </header>
  );
}

function BackButton({ narrow }: { narrow: boolean }) {
  const label = "Back to the chat";
  if (narrow) return <IconButton icon="chat" label={label} onClick={openChat} />;
  return (
    <Button icon="chat" onClick={openChat}>
      {label}
    </Button>
  );
}

function ServersButton() {
  const offered = useStore(me, (known) => known?.features.mcp ?? false);
  return offered ? <PanelButton name="servers" icon="server" label="MCP servers" /> : null;
}

interface PanelButtonProps {
  name: Panel;
  icon: "settings" | "server";
  label: string;
}

function PanelButton({ name, icon, label }: PanelButtonProps) {
  const open = useStore(panel) === name;
  return (
    <IconButton icon={icon} label={label} aria-expanded={open} onClick={() => togglePanel(name)} />
  );
}
