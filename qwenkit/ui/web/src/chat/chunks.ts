/** Joins the chunks of a streamed message into the message as far as it has come. Pure, but for the
 * clock it is given.
 */

import type { StoredMessage, StoredToolCall } from "../api/langgraph";

export interface ToolCallChunk {
  index?: number | null;
  id?: string | null;
  name?: string | null;
  args?: string | null;
}

/** A piece of a message as `messages` events carry it. */
export type MessageChunk = Omit<StoredMessage, "type"> & {
  type: string;
  tool_call_chunks?: ToolCallChunk[];
};

/** How a message came in, for counters while it is written. Times are in ms. */
export interface Live {
  startedAt: number;
  latestAt: number;
  /** Pieces so far, which are tokens as a rule. */
  n_chunks: number;
  /** When the answer's text or a tool call followed the thinking. */
  thoughtUntil: number | null;
}

/** A tool call whose arguments may still be coming in. */
export interface ChatToolCall extends StoredToolCall {
  /** The arguments as they are written; absent where the call is whole. */
  partial?: string;
}

export interface ChatMessage extends Omit<StoredMessage, "tool_calls"> {
  id: string;
  tool_calls?: ChatToolCall[];
  live?: Live;
}

export function addChunk(
  before: ChatMessage | undefined,
  chunk: MessageChunk,
  now: number,
): ChatMessage {
  const message = before ?? emptyAnswer(chunk.id ?? "", now);
  const reasoning = chunk.additional_kwargs?.reasoning_content ?? "";
  const text = typeof chunk.content === "string" ? chunk.content : "";
  const calls = chunk.tool_call_chunks ?? [];
  return {
    ...message,
    content: `${message.content as string}${text}`,
    additional_kwargs: {
      ...message.additional_kwargs,
      reasoning_content: `${message.additional_kwargs?.reasoning_content ?? ""}${reasoning}`,
    },
    tool_calls: calls.reduce(addCallChunk, message.tool_calls ?? []),
    response_metadata: { ...message.response_metadata, ...chunk.response_metadata },
    usage_metadata: chunk.usage_metadata ?? message.usage_metadata ?? null,
    live: advance(message.live, now, { text, reasoning, calls: calls.length }),
  };
}

function emptyAnswer(id: string, now: number): ChatMessage {
  const live = { startedAt: now, latestAt: now, n_chunks: 0, thoughtUntil: null };
  return { id, type: "ai", content: "", additional_kwargs: {}, live };
}

function addCallChunk(calls: ChatToolCall[], chunk: ToolCallChunk): ChatToolCall[] {
  const known = chunk.index ?? calls.length;
  const before = calls[known] ?? { id: "", name: "", args: {}, partial: "" };
  const after = {
    ...before,
    id: before.id || (chunk.id ?? ""),
    name: before.name || (chunk.name ?? ""),
    partial: `${before.partial ?? ""}${chunk.args ?? ""}`,
  };
  return [...calls.slice(0, known), after, ...calls.slice(known + 1)];
}

function advance(
  before: Live | undefined,
  now: number,
  said: { text: string; reasoning: string; calls: number },
): Live {
  const live = before ?? { startedAt: now, latestAt: now, n_chunks: 0, thoughtUntil: null };
  const answers = said.text.trim() !== "" || said.calls > 0;
  return {
    ...live,
    latestAt: now,
    n_chunks: live.n_chunks + (said.text || said.reasoning || said.calls ? 1 : 0),
    thoughtUntil: live.thoughtUntil ?? (answers ? now : null),
  };
}
