/** A value that components follow, with or without a place in the browser's storage. */

import { useSyncExternalStore } from "react";

export interface Store<T> {
  get(): T;
  set(next: T | ((before: T) => T)): void;
  subscribe(listener: () => void): () => void;
}

export function createStore<T>(initial: T): Store<T> {
  let value = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      const after = typeof next === "function" ? (next as (before: T) => T)(value) : next;
      if (Object.is(after, value)) return;
      value = after;
      for (const listener of [...listeners]) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** A store whose value outlives the page. `read` makes a value of what was found, which may be
 * anything.
 */
export function createKeptStore<T>(name: string, read: (found: unknown) => T): Store<T> {
  const store = createStore(read(readKept(name)));
  store.subscribe(() => writeKept(name, store.get()));
  window.addEventListener("storage", (event) => {
    if (event.key === name) store.set(read(readKept(name)));
  });
  return store;
}

/** A part of a store's value; `select` must give the same object for the same value. */
export function useStore<T>(store: Store<T>): T;
export function useStore<T, U>(store: Store<T>, select: (value: T) => U): U;
export function useStore<T, U>(store: Store<T>, select?: (value: T) => U): T | U {
  return useSyncExternalStore<T | U>(store.subscribe, () =>
    select ? select(store.get()) : store.get(),
  );
}

function readKept(name: string): unknown {
  try {
    const text = localStorage.getItem(name);
    return text === null ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function writeKept(name: string, value: unknown): void {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing (private windows, full storage) still has the value for this visit.
  }
}
