/** This conversation as a file, made in the browser. */

import { ratingsOf } from "../api/feedback";
import { type ChatThread, client, type StoredMessage } from "../api/langgraph";
import { textOf } from "../api/text";
import type { Rating } from "../api/types";
import { conversation } from "../state/conversation";
import { titleOf } from "../threads/title";
import { answersOf, conversationsOf, type State } from "./branches";
import { chatMessages } from "./conversation";
import { fileName } from "./download";
import { markdownOf } from "./markdown";
import { pairsOf } from "./pairs";
import type { MadeFile } from "./SaveFile";

export type ChatFormat = "markdown" | "jsonl" | "dpo";

const MOST_STATES = 1000;

/** The branch that is shown where the page has it, the newest one where it hasn't. Raises: ApiError. */
export async function exportChat(
  format: ChatFormat,
  threadId: string,
  thinking: boolean,
): Promise<MadeFile> {
  const { metadata, values } = await client.threads.get(threadId);
  const shown = conversation.get();
  const messages = shown.threadId === threadId ? shown.messages : (values?.messages ?? []);
  const title = titleIn(metadata, messages[0]);
  if (format === "markdown") return markdownFile(title, messages, thinking);
  const states: State[] = await client.threads.getHistory(threadId, { limit: MOST_STATES });
  if (format === "jsonl") return jsonlFile(title, states, thinking);
  return dpoFile(title, states, await ratingsOf(threadId), thinking);
}

function titleIn(metadata: ChatThread["metadata"], first: StoredMessage | undefined): string {
  const given: unknown = metadata?.["title"];
  if (typeof given === "string" && given) return given;
  return titleOf(first ? textOf(first) : "");
}

function markdownFile(title: string, messages: StoredMessage[], thinking: boolean): MadeFile {
  const n = messages.length;
  const content = n > 0 ? [markdownOf(title, messages, thinking)] : [];
  return {
    name: fileName(title, "md"),
    content: new Blob(content, { type: "text/markdown" }),
    told: n === 1 ? "1 message" : `${n} messages`,
  };
}

function jsonlFile(title: string, states: State[], thinking: boolean): MadeFile {
  const rows = conversationsOf(states).map(({ messages, systemPrompt }) => ({
    messages: chatMessages(messages, systemPrompt, thinking),
  }));
  const told = rows.length === 1 ? "1 conversation" : `${rows.length} branches, one a line`;
  return linesFile(fileName(title, "jsonl"), rows, told);
}

function dpoFile(title: string, states: State[], ratings: Rating[], thinking: boolean): MadeFile {
  const rows = pairsOf(answersOf(states), ratings, thinking);
  const told = rows.length === 1 ? "1 pair" : `${rows.length} pairs`;
  return linesFile(fileName(title, "dpo.jsonl"), rows, told);
}

function linesFile(name: string, rows: readonly object[], told: string): MadeFile {
  const lines = rows.map((row) => `${JSON.stringify(row)}\n`);
  return { name, content: new Blob(lines, { type: "application/x-ndjson" }), told };
}
