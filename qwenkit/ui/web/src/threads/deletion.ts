/** Deletes threads after a moment in which that can be taken back. One waits at a time. */

import { ApiError, describeError, request } from "../api/http";
import { createStore } from "../state/store";
import { threadsChanged } from "../state/threads";
import { showToast } from "../state/toasts";
import type { ThreadSummary } from "./summaries";

const MOMENT_MS = 7000;

/** The thread that is about to go, and can still be kept. */
export const leaving = createStore<ThreadSummary | null>(null);
/** Ids of threads that lists leave out: those that are about to go, and those that are gone. */
export const hidden = createStore<readonly string[]>([]);
let timer = 0;

export function deleteSoon(thread: ThreadSummary): void {
  deleteNow();
  leaving.set(thread);
  hidden.set((before) => [...before, thread.id]);
  timer = window.setTimeout(deleteNow, MOMENT_MS);
}

export function keepThread(): void {
  const thread = leaving.get();
  window.clearTimeout(timer);
  leaving.set(null);
  if (thread) show(thread);
}

function show(thread: ThreadSummary): void {
  hidden.set((before) => before.filter((id) => id !== thread.id));
}

function deleteNow(): void {
  const thread = leaving.get();
  window.clearTimeout(timer);
  leaving.set(null);
  if (!thread) return;
  deleteThread(thread).then(threadsChanged, (error: unknown) => {
    show(thread);
    showToast(describeError(error), "error");
  });
}

async function deleteThread(thread: ThreadSummary): Promise<void> {
  try {
    // A page that is being closed must still get it through.
    await request(`/agent/threads/${encodeURIComponent(thread.id)}`, {
      method: "DELETE",
      keepalive: true,
    });
  } catch (error) {
    const gone = error instanceof ApiError && error.status === 404;
    if (!gone) throw error;
  }
}

window.addEventListener("pagehide", deleteNow);
