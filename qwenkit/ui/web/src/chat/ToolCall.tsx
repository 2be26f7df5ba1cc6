/** A call of a tool: its arguments, what came back, and, where a person must decide, the question.
 */

import type { ToolCallMessagePartProps } from "@assistant-ui/react";
import { useId, useState } from "react";

import { Icon, type IconName } from "../ui";
import { ApprovalCard } from "./ApprovalCard";
import { useChat } from "./context";

type State = "writing" | "running" | "asking" | "done" | "failed" | "denied" | "left";

const LOOKS: Record<State, { says: string; icon: IconName }> = {
  writing: { says: "is being called", icon: "tools" },
  running: { says: "is running", icon: "tools" },
  asking: { says: "wants to run", icon: "warn" },
  done: { says: "has run", icon: "check" },
  failed: { says: "returned an error", icon: "warn" },
  denied: { says: "was denied", icon: "close" },
  left: { says: "was not run", icon: "close" },
};

export function ToolCall({
  toolCallId,
  toolName,
  argsText,
  result,
  isError,
  artifact,
  status,
}: ToolCallMessagePartProps) {
  const { approvals, running } = useChat().conversation;
  const approval = approvals.find((each) => each.callId === toolCallId) ?? null;
  const denied = artifact === "reject";
  const state = stateOf({ asked: approval !== null, denied, result, isError, running, status });
  return (
    <div role="group" className="tool-call" data-state={state} aria-label={`Tool ${toolName}`}>
      {approval ? (
        <ApprovalCard approval={approval} />
      ) : (
        <Told name={toolName} state={state} argsText={argsText} result={result} />
      )}
    </div>
  );
}

function stateOf(call: {
  asked: boolean;
  denied: boolean;
  result: unknown;
  isError: boolean | undefined;
  running: boolean;
  status: { type: string };
}): State {
  if (call.asked) return "asking";
  if (call.result !== undefined && call.denied) return "denied";
  if (call.result !== undefined) return call.isError ? "failed" : "done";
  if (!call.running) return "left";
  return call.status.type === "running" ? "writing" : "running";
}

interface ToldProps {
  name: string;
  state: State;
  argsText: string;
  result: unknown;
}

function Told({ name, state, argsText, result }: ToldProps) {
  const id = useId();
  const [open, setOpen] = useState(false);
  const { says, icon } = LOOKS[state];
  return (
    <>
      <button
        type="button"
        className="tool-title"
        aria-expanded={open}
        aria-controls={id}
        onClick={() => setOpen(!open)}
      >
        <Icon name={icon} size={16} />
        <span className="min-w-0 truncate">
          <code className="font-semibold">{name}</code> {says}
        </span>
        <Icon name={open ? "up" : "down"} size={14} />
      </button>
      <div id={id} hidden={!open} className="tool-body">
        <ToolText label="Arguments" text={pretty(argsText)} />
        {result !== undefined && (
          <ToolText label={state === "failed" ? "Error" : "Result"} text={pretty(result)} />
        )}
      </div>
    </>
  );
}

function ToolText({ label, text }: { label: string; text: string }) {
  return (
    <div>
      <h3 className="text-[13px] font-semibold text-text-soft">{label}</h3>
      <pre className="tool-text" tabIndex={0} role="region" aria-label={label}>
        {text || "none"}
      </pre>
    </div>
  );
}

/** JSON with line breaks; what is none stays as it is. */
export function pretty(value: unknown): string {
  if (typeof value !== "string") return JSON.stringify(value, null, 2);
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}
