/** A message of the thread as assistant-ui shows it. Pure. */

import type { useExternalMessageConverter } from "@assistant-ui/react";

import { textOf } from "../api/langgraph";
import type { ChatMessage, ChatToolCall } from "./chunks";

type Shown = useExternalMessageConverter.Message;
type Args = Record<string, never>;

export function toThreadMessage(message: ChatMessage): Shown | Shown[] {
  const { id } = message;
  switch (message.type) {
    case "human":
      return { id, role: "user", content: [{ type: "text", text: textOf(message) }] };
    case "ai":
      return { id, role: "assistant", content: partsOf(message) };
    case "tool":
      return {
        role: "tool",
        toolCallId: message.tool_call_id ?? "",
        result: textOf(message),
        isError: message.status === "error",
        artifact: message.additional_kwargs?.decision,
      };
    default:
      return [];
  }
}

function partsOf(message: ChatMessage) {
  const reasoning = message.additional_kwargs?.reasoning_content ?? "";
  const text = textOf(message);
  return [
    ...(reasoning ? [{ type: "reasoning" as const, text: reasoning, parentId: message.id }] : []),
    ...(text.trim() ? [{ type: "text" as const, text }] : []),
    ...(message.tool_calls ?? []).map(callPart),
  ];
}

function callPart(call: ChatToolCall, index: number) {
  const argsText = call.partial ?? JSON.stringify(call.args);
  return {
    type: "tool-call" as const,
    toolCallId: call.id || `call-${index}`,
    toolName: call.name,
    args: call.args as Args,
    argsText,
  };
}
