/** The API key: asked once, kept in the browser. Knows no dialog; whoever shows one follows
 * `keyRequest`.
 */

import { createKeptStore, createStore } from "./store";

const key = createKeptStore<string | null>("qwenkit.key", (found) =>
  typeof found === "string" && found ? found : null,
);

export interface KeyRequest {
  /** A key was sent and refused. */
  refused: boolean;
}

/** What the person is being asked; null while nothing waits for a key. */
export const keyRequest = createStore<KeyRequest | null>(null);
let waiting: ((given: boolean) => void)[] = [];

export const getKey = (): string | null => key.get();
export const keyStore = key;

/** Asks for a key; resolves to whether one was given. `refused` is the key that did not do. */
export function requestKey(refused: string | null): Promise<boolean> {
  keyRequest.set((before) => before ?? { refused: refused !== null });
  return new Promise((resolve) => waiting.push(resolve));
}

export function giveKey(given: string): void {
  key.set(given.trim() || null);
  settle(true);
}

export function refuseKey(): void {
  settle(false);
}

export function forgetKey(): void {
  key.set(null);
}

function settle(given: boolean): void {
  const resolvers = waiting;
  waiting = [];
  keyRequest.set(null);
  for (const resolve of resolvers) resolve(given);
}
