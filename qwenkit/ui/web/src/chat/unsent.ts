/** Messages that may not have reached the server: what is needed to send them again. Pure. */

import type { StoredMessage } from "../api/langgraph";
import type { ChatMessage } from "./chunks";
import type { RunPlan } from "./plan";

export interface Unsent {
  /** Sent again under the same ids, so that none is kept twice. */
  messages: ChatMessage[];
  plan: RunPlan;
}

type Sent = Omit<ChatMessage, "id">;

export const written = (text: string): Sent => ({ type: "human", content: text });

/** Gives messages ids, so that they are known again when the server tells of them. */
export const withIds = (messages: readonly (Sent | ChatMessage)[]): ChatMessage[] =>
  messages.map((message) => ({ id: newId(), ...message }));

/** Whether a thread has them. */
export function hasAll(found: readonly StoredMessage[], sent: readonly ChatMessage[]): boolean {
  const known = new Set(found.map(({ id }) => id));
  return sent.every(({ id }) => known.has(id));
}

/** `crypto.randomUUID` is kept from pages that come over plain HTTP. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
