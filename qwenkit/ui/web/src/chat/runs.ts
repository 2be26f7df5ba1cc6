/** Starts, joins and ends runs of a thread. Knows the agent's client; no React. */

import { ASSISTANT, client } from "../api/langgraph";
import { settings } from "../state/settings";
import type { ChatMessage } from "./chunks";
import type { ServerEvent } from "./events";
import type { Snapshot } from "./history";
import { type RunPlan, toConfigurable } from "./plan";

const MODES = ["values", "messages-tuple"] as const;
const ACTIVE = new Set<string>(["running", "pending"]);
const FROM_THE_START = "-1";
/** The server tells at most so many checkpoints. */
const HISTORY_LIMIT = 100;

export async function createThread(): Promise<string> {
  return (await client.threads.create()).thread_id;
}

/** Streams a new run, or the one that the plan joins; closing it lets the run go on. */
export function streamRun(
  threadId: string,
  messages: readonly ChatMessage[],
  plan: RunPlan,
  signal: AbortSignal,
): AsyncIterable<ServerEvent> {
  if (plan.join) {
    return client.runs.joinStream(threadId, plan.join, {
      signal,
      lastEventId: FROM_THE_START,
      streamMode: [...MODES],
    });
  }
  const chosen = settings.get();
  return client.runs.stream(threadId, ASSISTANT, {
    input: messages.length ? { messages: messages.map(toInput) } : null,
    ...(plan.resume === undefined ? {} : { command: { resume: plan.resume } }),
    ...(plan.checkpointId ? { checkpointId: plan.checkpointId } : {}),
    ...(chosen.rater ? { metadata: { user: chosen.rater } } : {}),
    config: { configurable: toConfigurable(chosen, plan.model) },
    streamMode: [...MODES],
    streamResumable: true,
    onDisconnect: "continue",
    multitaskStrategy: "interrupt",
    signal,
  });
}

/** Ends a run; what was written stays. */
export const cancelRun = (threadId: string, runId: string): Promise<void> =>
  client.runs.cancel(threadId, runId, false, "interrupt");

/** Makes a branch the thread's newest, so that it is what everybody sees and goes on from. */
export async function keepBranch(threadId: string, checkpointId: string): Promise<void> {
  await client.threads.updateState(threadId, { values: null, checkpointId });
}

/** Newest first. */
export const readHistory = (threadId: string): Promise<Snapshot[]> =>
  client.threads.getHistory(threadId, { limit: HISTORY_LIMIT });

/** The run that a thread is busy with; null where it rests. */
export async function activeRun(threadId: string): Promise<string | null> {
  const runs = await client.runs.list(threadId, { limit: 5 });
  return runs.findLast((run) => ACTIVE.has(run.status))?.run_id ?? null;
}

function toInput({ id, content }: ChatMessage) {
  return { id, type: "human" as const, content: content as string };
}
