/** The MCP servers whose tools the model may use: how they are doing, what they offer, and new ones. */

import { useEffect } from "react";

import { listServers, listTools } from "../api/mcp";
import { AdminKeyButton } from "../key/AdminKeyButton";
import { me } from "../state/me";
import { useStore } from "../state/store";
import { type Async, Button, Empty, Note, Spinner, useAsync } from "../ui";
import { AddServer } from "./AddServer";
import { ServerCard, VisibleServerCard } from "./ServerCard";

const REREAD_MS = 10_000;

export function ServersPanel() {
  const isAdmin = useStore(me, (known) => known?.role === "admin");
  return (
    <div className="flex flex-col gap-4 px-5 pb-8">
      <p className="hint mt-0">
        Servers of the Model Context Protocol give the model tools. Before a tool runs it asks you,
        unless it is allowed to run freely.
      </p>
      {isAdmin ? <AdminServers /> : <VisibleServers />}
    </div>
  );
}

function AdminServers() {
  const servers = useAsync(listServers, "servers");
  useRereading(servers.reload);
  return (
    <>
      <AddServer onAdded={servers.reload} />
      <Loaded servers={servers}>
        {(server) => <ServerCard key={server.name} server={server} onChanged={servers.reload} />}
      </Loaded>
    </>
  );
}

function VisibleServers() {
  const servers = useAsync(listTools, "tools");
  useRereading(servers.reload);
  return (
    <>
      <Note kind="warn" action={<AdminKeyButton />}>
        Connecting, testing and removing servers needs an admin’s key.
      </Note>
      <Loaded servers={servers}>
        {(server) => <VisibleServerCard key={server.name} server={server} />}
      </Loaded>
    </>
  );
}

function Loaded<T>({
  servers,
  children,
}: {
  servers: Async<T[]>;
  children: (server: T) => React.ReactNode;
}) {
  const failed = servers.error && (
    <Note kind="bad" action={<Button onClick={servers.reload}>Try again</Button>}>
      {servers.error}
    </Note>
  );
  if (!servers.data) return failed || <Spinner label="Loading servers" />;
  return (
    <>
      {failed}
      {servers.data.length === 0 && (
        <Empty icon="server" title="No servers yet">
          The operator lists servers in the file of MCP_CONFIG; an admin adds others here.
        </Empty>
      )}
      {servers.data.map(children)}
    </>
  );
}

/** Servers come and go by themselves; what is seen is read again now and then. */
function useRereading(reload: () => void): void {
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") reload();
    }, REREAD_MS);
    return () => clearInterval(timer);
  }, [reload]);
}
