/** What the list shows of a thread, and how it is asked for. Knows no components. */

import type { Thread } from "@langchain/langgraph-sdk";

import { type ChatState, client, type StoredMessage } from "../api/langgraph";
import { textOf } from "../api/text";
import { titleOf } from "./title";

export interface ThreadSummary {
  id: string;
  title: string;
  /** The title was given by a person; others come from the first message. */
  named: boolean;
  changedAt: Date;
  status: Thread["status"];
}

export const PAGE_SIZE = 60;
const BY_CHANGE = { sortBy: "state_updated_at", sortOrder: "desc" } as const;

type Listed = Thread<ChatState> & { extracted?: { first?: StoredMessage | null } };

/** Newest first. */
export async function loadSummaries(limit: number): Promise<ThreadSummary[]> {
  const found: Listed[] = await client.threads.search({
    ...BY_CHANGE,
    limit,
    select: ["thread_id", "created_at", "state_updated_at", "metadata", "status"],
    extract: { first: "values.messages[0]" },
  });
  return found.map((thread) => summaryOf(thread, thread.extracted?.first ?? null));
}

/** One page of threads with all that is said in them, newest first. */
export async function loadWhole(
  offset: number,
  limit: number,
): Promise<{ summary: ThreadSummary; messages: StoredMessage[] }[]> {
  const found: Listed[] = await client.threads.search({
    ...BY_CHANGE,
    offset,
    limit,
    select: ["thread_id", "created_at", "state_updated_at", "metadata", "status", "values"],
  });
  return found.map((thread) => {
    const messages = thread.values?.messages ?? [];
    return { summary: summaryOf(thread, messages[0] ?? null), messages };
  });
}

/** Null takes the given title away, so that the first message is the title again. */
export async function renameThread(id: string, title: string | null): Promise<void> {
  await client.threads.update(id, { metadata: { title } });
}

function summaryOf(thread: Listed, first: StoredMessage | null): ThreadSummary {
  const given: unknown = thread.metadata?.["title"];
  const named = typeof given === "string" && given !== "";
  return {
    id: thread.thread_id,
    title: named ? given : titleOf(first ? textOf(first) : ""),
    named,
    changedAt: new Date(thread.state_updated_at ?? thread.created_at),
    status: thread.status,
  };
}
