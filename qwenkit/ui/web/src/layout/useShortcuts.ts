/** The keys that work everywhere. What they do is told by the shortcuts dialog, from the same list.
 */

import { useEffect } from "react";

import { openDialog, sidebar, togglePanel } from "../state/panels";
import { openNewThread } from "../state/route";

export interface Shortcut {
  keys: string[];
  does: string;
  act?: () => void;
}

/** The first key of a combination is written as `Mod` where it is Ctrl, or Cmd on a Mac. */
export const SHORTCUTS: Shortcut[] = [
  { keys: ["Mod", "Shift", "O"], does: "New chat", act: openNewThread },
  { keys: ["Mod", "B"], does: "Show or hide conversations", act: toggleSidebar },
  { keys: ["Mod", ","], does: "Settings", act: () => togglePanel("settings") },
  { keys: ["Mod", "/"], does: "Keyboard shortcuts", act: () => openDialog("shortcuts") },
  { keys: ["Shift", "Esc"], does: "Write a message", act: focusComposer },
  { keys: ["Enter"], does: "Send the message" },
  { keys: ["Shift", "Enter"], does: "New line in the message" },
  { keys: ["Esc"], does: "Stop the answer, leave an edit or a dialog" },
];

export function useShortcuts(): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const found = SHORTCUTS.find((shortcut) => shortcut.act && matches(event, shortcut.keys));
      if (!found?.act) return;
      event.preventDefault();
      found.act();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
}

function matches(event: KeyboardEvent, keys: string[]): boolean {
  const last = keys.at(-1) === "Esc" ? "Escape" : keys.at(-1);
  const isKey = event.key.toLowerCase() === last?.toLowerCase();
  const mod = event.ctrlKey || event.metaKey;
  return isKey && mod === keys.includes("Mod") && event.shiftKey === keys.includes("Shift");
}

function toggleSidebar(): void {
  const narrow = window.matchMedia("(max-width: 767px)").matches;
  sidebar.set((before) => !(before ?? !narrow));
}

function focusComposer(): void {
  document.querySelector<HTMLTextAreaElement>("[data-composer]")?.focus();
}
