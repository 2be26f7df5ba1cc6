/** Which panel, drawer and dialog is open. */

import { createStore } from "./store";

export type Panel = "settings" | "servers";
export type DialogName = "export" | "shortcuts";

/** Beside the chat on wide screens, over it on phones. */
export const panel = createStore<Panel | null>(null);
/** The thread list: null follows the screen's width. */
export const sidebar = createStore<boolean | null>(null);
export const dialog = createStore<DialogName | null>(null);

export function togglePanel(name: Panel): void {
  panel.set((before) => (before === name ? null : name));
}

export const openDialog = (name: DialogName): void => dialog.set(name);
export const closeDialog = (): void => dialog.set(null);
