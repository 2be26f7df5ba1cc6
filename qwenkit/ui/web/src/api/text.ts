/** The text of a message of the agent. Pure. */

import type { StoredMessage } from "./langgraph";

/** What a message says, without pictures and files. */
export function textOf(message: Pick<StoredMessage, "content">): string {
  if (typeof message.content === "string") return message.content;
  return message.content.map((block) => (block.type === "text" ? (block.text ?? "") : "")).join("");
}
