/** Turns the server's stream into the events that assistant-ui's LangGraph hook takes. Knows no React.

The hook joins chunks itself, but leaves out thinking and counters; so it is given messages as far as they
have come, and after each step the whole state.
*/

import type { ChatState, StoredMessage } from "../api/langgraph";
import { addChunk, type ChatMessage, type MessageChunk } from "./chunks";

export interface ServerEvent {
  /** The server's time in ms and a number, where the run is kept to be joined. */
  id?: string;
  event: string;
  data: unknown;
}

export interface RuntimeEvent {
  event: string;
  data: unknown;
}

export interface StreamListener {
  /** The run has begun, or was joined. */
  onRun(runId: string): void;
  /** The run has failed; nothing comes after. */
  onError(message: string): void;
}

/** What the hook takes: `messages/partial`, `values`, and `updates` for questions to the person. */
export async function* toRuntimeEvents(
  events: AsyncIterable<ServerEvent>,
  listener: StreamListener,
  clock: () => number = Date.now,
): AsyncGenerator<RuntimeEvent> {
  const written = new Map<string, ChatMessage>();
  yield { event: "updates", data: {} };
  for await (const { id, event, data } of events) {
    if (event === "metadata") listener.onRun((data as { run_id: string }).run_id);
    if (event === "error") listener.onError(readFailure(data));
    if (event === "messages")
      yield* partial(written, data as [MessageChunk, unknown], timeIn(id) ?? clock());
    if (event === "values") yield* whole(written, data as ChatState);
  }
}

/** A run that is joined tells at once what took it long, so the time in its ids counts. */
function timeIn(id: string | undefined): number | null {
  const time = Number.parseInt(id ?? "", 10);
  return Number.isNaN(time) ? null : time;
}

function* partial(
  written: Map<string, ChatMessage>,
  [chunk]: [MessageChunk, unknown],
  now: number,
): Generator<RuntimeEvent> {
  if (!chunk.id || !["AIMessageChunk", "ai"].includes(chunk.type)) return;
  const message = addChunk(written.get(chunk.id), chunk, now);
  written.set(chunk.id, message);
  yield { event: "messages/partial", data: [message] };
}

function* whole(written: Map<string, ChatMessage>, state: ChatState): Generator<RuntimeEvent> {
  const messages = (state.messages ?? []).map((message) => keepLive(message, written));
  yield { event: "values", data: { messages } };
  const asked = state.__interrupt__;
  if (Array.isArray(asked)) yield { event: "updates", data: { __interrupt__: asked } };
}

function keepLive(message: StoredMessage, written: Map<string, ChatMessage>): ChatMessage {
  const id = message.id ?? "";
  const live = written.get(id)?.live;
  return live ? { ...message, id, live } : { ...message, id };
}

function readFailure(data: unknown): string {
  const told = data as { message?: string; error?: string | { message?: string } } | null;
  if (told?.message) return told.message;
  if (typeof told?.error === "object") return told.error.message ?? "The answer failed.";
  return told?.error ?? "The answer failed.";
}
