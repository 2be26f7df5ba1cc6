/** Where the person is: a chat or the feedback page. Kept in the address behind `#`, so that reload
 * and back work.
 */

import { createStore } from "./store";

export type Route = { page: "chat"; threadId: string | null } | { page: "feedback" };

export const route = createStore<Route>(readRoute());

let lastChat = chatIn(route.get());
route.subscribe(() => {
  lastChat = chatIn(route.get(), lastChat);
});

/** Changes when another conversation is to be shown; stays the same when a new one gets its id. */
export const chatKey = createStore<string>(newKey());

window.addEventListener("hashchange", () => follow(readRoute()));

export function openThread(threadId: string): void {
  go({ page: "chat", threadId });
}

export function openNewThread(): void {
  chatKey.set(newKey());
  go({ page: "chat", threadId: null });
}

export function openFeedback(): void {
  go({ page: "feedback" });
}

/** Back to the conversation that was shown last. */
export function openChat(): void {
  go(lastChat);
}

/** The conversation that is shown has got its id; it goes on being shown. */
export function nameThread(threadId: string): void {
  route.set({ page: "chat", threadId });
  history.replaceState(null, "", hashOf({ page: "chat", threadId }));
}

function go(next: Route): void {
  const hash = hashOf(next);
  if (location.hash !== hash) history.pushState(null, "", hash);
  follow(next);
}

function follow(next: Route): void {
  if (next.page === "chat" && next.threadId !== lastChat.threadId) chatKey.set(newKey());
  route.set(next);
}

type ChatRoute = Extract<Route, { page: "chat" }>;

function chatIn(shown: Route, otherwise: ChatRoute = { page: "chat", threadId: null }): ChatRoute {
  return shown.page === "chat" ? shown : otherwise;
}

function hashOf(shown: Route): string {
  if (shown.page === "feedback") return "#/feedback";
  return shown.threadId ? `#/chat/${encodeURIComponent(shown.threadId)}` : "#/";
}

function readRoute(): Route {
  if (location.hash === "#/feedback") return { page: "feedback" };
  const found = /^#\/chat\/(.+)$/.exec(location.hash)?.[1];
  return { page: "chat", threadId: found ? decodeURIComponent(found) : null };
}

function newKey(): string {
  return Math.random().toString(36).slice(2);
}
