/** Reads what can be searched: the server lists threads, finding in them is done here. */

import type { StoredMessage } from "../api/langgraph";
import { textOf } from "../api/text";
import { searchable, type Searchable } from "./find";
import { loadWhole } from "./summaries";

const PAGE = 50;

/** All threads with their text, newest first. */
export async function loadSearchable(): Promise<Searchable[]> {
  const all: Searchable[] = [];
  for (;;) {
    const page = await loadWhole(all.length, PAGE);
    all.push(...page.map(({ summary, messages }) => searchable(summary, spoken(messages))));
    if (page.length < PAGE) return all;
  }
}

function spoken(messages: readonly StoredMessage[]): string {
  return messages
    .filter((message) => message.type === "human" || message.type === "ai")
    .map((message) => textOf(message).replace(/\s+/g, " "))
    .join(" · ");
}
