/** Short notices that go away by themselves. */

import { createStore } from "./store";

export interface Toast {
  id: number;
  kind: "info" | "error";
  text: string;
}

const SHOWN_MS = 6000;
let count = 0;

export const toasts = createStore<Toast[]>([]);

export function showToast(text: string, kind: Toast["kind"] = "info"): void {
  const id = ++count;
  toasts.set((before) => [...before, { id, kind, text }]);
  setTimeout(() => dismissToast(id), SHOWN_MS);
}

export function dismissToast(id: number): void {
  toasts.set((before) => before.filter((toast) => toast.id !== id));
}
