/** Messages of the agent as OpenAI's API and `qwenkit finetune` spell them. Knows no files. */

import type { StoredMessage } from "../api/langgraph";
import { textOf } from "../api/text";

export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

export interface ChatMessage {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  reasoning_content?: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
}

const ROLES = { human: "user", ai: "assistant", tool: "tool", system: "system" } as const;

export function reasoningOf(message: StoredMessage): string {
  return message.additional_kwargs?.reasoning_content ?? "";
}

function toolCallsOf(message: StoredMessage): ToolCall[] {
  return (message.tool_calls ?? []).map((call) => ({
    id: call.id,
    type: "function",
    function: { name: call.name, arguments: JSON.stringify(call.args) },
  }));
}

/** One message, with or without its reasoning. */
export function chatMessage(message: StoredMessage, thinking: boolean): ChatMessage {
  const spelled: ChatMessage = { role: ROLES[message.type], content: textOf(message) };
  const reasoning = reasoningOf(message);
  const calls = toolCallsOf(message);
  if (thinking && reasoning) spelled.reasoning_content = reasoning;
  if (calls.length > 0) spelled.tool_calls = calls;
  if (message.tool_call_id) spelled.tool_call_id = message.tool_call_id;
  return spelled;
}

/** A conversation, begun by what the model was told first. */
export function chatMessages(
  messages: readonly StoredMessage[],
  systemPrompt: string,
  thinking: boolean,
): ChatMessage[] {
  const told: ChatMessage[] = systemPrompt ? [{ role: "system", content: systemPrompt }] : [];
  return [...told, ...messages.map((each) => chatMessage(each, thinking))];
}
