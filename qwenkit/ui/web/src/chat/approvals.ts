/** Tool calls that wait for a person: which calls are asked about, and how an answer is written.
 * Pure.
 */

import type { ChatMessage } from "./chunks";

export type DecisionType = "approve" | "edit" | "reject" | "respond";

export interface ActionRequest {
  name: string;
  args: Record<string, unknown>;
  description?: string;
}

export type Decision =
  | { type: "approve" }
  | { type: "edit"; edited_action: { name: string; args: Record<string, unknown> } }
  | { type: "reject"; message?: string };

export interface Approval {
  callId: string;
  request: ActionRequest;
  allowed: DecisionType[];
}

interface Question {
  action_requests?: ActionRequest[];
  review_configs?: { action_name: string; allowed_decisions: DecisionType[] }[];
  error?: string;
}

/** The calls that a question is about, in its order. */
export function approvalsOf(value: unknown, messages: readonly ChatMessage[]): Approval[] {
  const { action_requests = [], review_configs = [] } = (value ?? {}) as Question;
  const waiting = waitingCalls(messages);
  return action_requests.flatMap((request) => {
    const at = waiting.findIndex(
      (call) => call.name === request.name && sameJson(call.args, request.args),
    );
    const call = at < 0 ? undefined : waiting.splice(at, 1)[0];
    const config = review_configs.find((each) => each.action_name === request.name);
    const allowed = config?.allowed_decisions ?? ["approve", "reject"];
    return call ? [{ callId: call.id, request, allowed }] : [];
  });
}

/** What was wrong with the last answer to the question, if anything. */
export const complaintOf = (value: unknown): string | null =>
  ((value ?? {}) as Question).error ?? null;

function waitingCalls(messages: readonly ChatMessage[]) {
  const answered = new Set(messages.map((message) => message.tool_call_id));
  const last = messages.findLast((message) => message.type === "ai");
  return (last?.tool_calls ?? []).filter((call) => !answered.has(call.id));
}

function sameJson(left: unknown, right: unknown): boolean {
  return JSON.stringify(sorted(left)) === JSON.stringify(sorted(right));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, item]) => [name, sorted(item)]));
}
