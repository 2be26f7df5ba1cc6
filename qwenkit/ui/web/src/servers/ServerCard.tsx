/** One MCP server: its state, why it failed, its tools; an admin can test it and take it away. */

import { useState } from "react";

import { describeError } from "../api/http";
import { checkServer, removeServer } from "../api/mcp";
import type { McpServer, McpToolsOfServer } from "../api/types";
import { showToast } from "../state/toasts";
import { Button, Note, Question } from "../ui";
import { StateBadge } from "./StateBadge";
import { ToolList } from "./ToolList";

interface CardProps {
  server: McpServer;
  onChanged: () => void;
}

const toolCount = (n: number): string => (n === 1 ? "1 tool" : `${n} tools`);

export function ServerCard({ server, onChanged }: CardProps) {
  const [state, setState] = useState<"idle" | "testing" | "asking" | "removing">("idle");
  const [error, setError] = useState<string | null>(null);

  const act = async (does: () => Promise<string>) => {
    setError(null);
    try {
      showToast(await does());
    } catch (failure) {
      setError(describeError(failure));
    }
    setState("idle");
    onChanged();
  };
  const test = () => {
    setState("testing");
    void act(async () => {
      const tested = await checkServer(server.name);
      return `“${server.name}” answers with ${toolCount(tested.tools.length)}`;
    });
  };
  const remove = () => {
    setState("removing");
    void act(async () => {
      await removeServer(server.name);
      return `“${server.name}” is removed`;
    });
  };

  return (
    <article className="card flex flex-col gap-2.5 p-3.5" aria-label={server.name}>
      <Head name={server.name} state={server.state} />
      <p className="font-mono text-[12.5px] break-all text-text-soft">{server.where}</p>
      <p className="text-[13px] text-text-soft">{factsOf(server).join(" · ")}</p>
      {server.reason && <Note kind="bad">{server.reason}</Note>}
      {error && !server.reason && <Note kind="bad">{error}</Note>}
      <ToolFold tools={server.tools} />
      {state === "asking" || state === "removing" ? (
        <Question
          yes="Remove"
          busy={state === "removing"}
          onYes={remove}
          onNo={() => setState("idle")}
        >
          Remove “{server.name}”? The model loses its tools.
        </Question>
      ) : (
        <div className="flex gap-2">
          <Button
            kind="outline"
            icon="retry"
            disabled={state === "testing" || server.state === "disabled"}
            aria-label={`Test ${server.name}`}
            onClick={test}
          >
            {state === "testing" ? "Testing…" : "Test"}
          </Button>
          {server.origin === "added" && (
            <Button
              kind="danger"
              icon="trash"
              aria-label={`Remove ${server.name}`}
              onClick={() => setState("asking")}
            >
              Remove
            </Button>
          )}
        </div>
      )}
    </article>
  );
}

/** What a user sees who is no admin. */
export function VisibleServerCard({ server }: { server: McpToolsOfServer }) {
  return (
    <article className="card flex flex-col gap-2.5 p-3.5" aria-label={server.name}>
      <Head name={server.name} state={server.state} />
      <ToolFold tools={server.tools} />
    </article>
  );
}

const KINDS: Record<string, string> = {
  stdio: "a program, over stdio",
  http: "streamable HTTP",
  sse: "SSE",
};

function factsOf(server: McpServer): string[] {
  return [
    KINDS[server.type] ?? server.type,
    server.software ?? "",
    server.protocol ? `MCP ${server.protocol}` : "",
    server.origin === "added" ? "added by an admin" : "from MCP_CONFIG",
  ].filter(Boolean);
}

function Head({ name, state }: { name: string; state: string }) {
  return (
    <div className="flex items-center justify-between gap-2">
      <h3 className="min-w-0 font-semibold break-words">{name}</h3>
      <StateBadge state={state} />
    </div>
  );
}

function ToolFold({ tools }: { tools: McpServer["tools"] }) {
  if (tools.length === 0) return null;
  return (
    <details className="fold">
      <summary>{toolCount(tools.length)}</summary>
      <ToolList tools={tools} />
    </details>
  );
}
