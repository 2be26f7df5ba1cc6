/** Finds the turns of a conversation: a person's message, and all that the model and its tools said
 * to it. Pure.
 */

import type { ChatMessage } from "./chunks";

/** What the model answered to one message: its position, and its messages with those of its tools.
 */
export interface Answer {
  /** Where it begins in the conversation. */
  index: number;
  messages: ChatMessage[];
}

/** The answer that a message belongs to; null for a person's message. */
export function answerAt(messages: readonly ChatMessage[], id: string): Answer | null {
  const at = messages.findIndex((message) => message.id === id);
  if (at < 0 || !isAnswering(messages[at])) return null;
  let index = at;
  while (index > 0 && isAnswering(messages[index - 1])) index--;
  return { index, messages: answerFrom(messages, index) };
}

/** The messages of the answer that begins at `index`. */
export function answerFrom(messages: readonly ChatMessage[], index: number): ChatMessage[] {
  const end = messages.findIndex((message, at) => at >= index && !isAnswering(message));
  return messages.slice(index, end < 0 ? undefined : end);
}

/** The message that stands for an answer when it is rated: the last that the model wrote. */
export function lastWritten(messages: readonly ChatMessage[]): ChatMessage | null {
  return messages.findLast((message) => message.type === "ai") ?? null;
}

function isAnswering(message: ChatMessage | undefined): boolean {
  return message?.type === "ai" || message?.type === "tool";
}
