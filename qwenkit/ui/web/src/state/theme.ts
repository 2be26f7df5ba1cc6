/** Puts the chosen theme on the page, and follows the system's where none is chosen. */

import { settings } from "./settings";

const dark = window.matchMedia("(prefers-color-scheme: dark)");

export function applyTheme(): void {
  const show = () => {
    const { theme } = settings.get();
    const shown = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
    document.documentElement.dataset.theme = shown;
  };
  settings.subscribe(show);
  dark.addEventListener("change", show);
  show();
}
