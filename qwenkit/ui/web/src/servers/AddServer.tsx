/** Connects to a new MCP server: its address and key, a test, and what its tools may do. */

import { type FormEvent, useState } from "react";

import { ApiError, describeError } from "../api/http";
import { addServer, testServer } from "../api/mcp";
import type { McpServer } from "../api/types";
import { showToast } from "../state/toasts";
import { Button, Icon, Note } from "../ui";
import { ConnectionFields } from "./ConnectionFields";
import { connectionOf, type Draft, EMPTY_DRAFT, fieldOf, requestOf } from "./draft";
import { FreeTools } from "./FreeTools";

export function AddServer({ onAdded }: { onAdded: () => void }) {
  const [open, setOpen] = useState(false);
  return (
    <details className="fold" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <Icon name="plus" size={16} /> Connect a server
      </summary>
      {open && (
        <ServerForm
          onAdded={() => {
            setOpen(false);
            onAdded();
          }}
        />
      )}
    </details>
  );
}

interface Failure {
  text: string;
  field: ReturnType<typeof fieldOf>;
}

function ServerForm({ onAdded }: { onAdded: () => void }) {
  const [draft, setDraft] = useState<Draft>(EMPTY_DRAFT);
  const [busy, setBusy] = useState<"testing" | "connecting" | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [tested, setTested] = useState<{ server: McpServer; connection: string } | null>(null);
  const found = tested?.connection === connectionOf(draft) ? tested.server : null;

  const run = async (what: "testing" | "connecting", does: () => Promise<void>) => {
    setBusy(what);
    setFailure(null);
    try {
      await does();
    } catch (error) {
      const param = error instanceof ApiError ? error.param : null;
      setFailure({ text: describeError(error), field: fieldOf(param) });
    }
    setBusy(null);
  };
  const test = () =>
    run("testing", async () => {
      setTested(null);
      const server = await testServer(requestOf(draft));
      setTested({ server, connection: connectionOf(draft) });
    });
  const connect = (event: FormEvent) => {
    event.preventDefault();
    void run("connecting", async () => {
      const server = await addServer(requestOf(draft));
      showToast(`“${server.name}” is connected`);
      onAdded();
    });
  };

  const ready = draft.name.trim() !== "" && draft.url.trim() !== "";
  return (
    <form className="flex flex-col gap-3.5 pt-2" onSubmit={connect}>
      <ConnectionFields
        draft={draft}
        onChange={(changes) => setDraft({ ...draft, ...changes })}
        errorAt={(field) => (failure?.field === field ? failure.text : null)}
      />
      {failure && failure.field === null && <Note kind="bad">{failure.text}</Note>}
      {found && (
        <FreeTools
          server={found}
          allowed={draft.allowed}
          onChange={(allowed) => setDraft({ ...draft, allowed })}
        />
      )}
      <div className="flex gap-2">
        <Button
          kind="outline"
          className="flex-1"
          disabled={!ready || busy !== null}
          onClick={() => void test()}
        >
          {busy === "testing" ? "Testing…" : "Test connection"}
        </Button>
        <Button kind="primary" type="submit" className="flex-1" disabled={!ready || busy !== null}>
          {busy === "connecting" ? "Connecting…" : "Connect"}
        </Button>
      </div>
    </form>
  );
}
