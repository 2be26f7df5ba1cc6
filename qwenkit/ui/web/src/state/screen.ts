/** How wide the screen is, as the stylesheet's breakpoints have it. */

import { useSyncExternalStore } from "react";

function follow(query: string): () => boolean {
  const media = window.matchMedia(query);
  const subscribe = (listener: () => void) => {
    media.addEventListener("change", listener);
    return () => media.removeEventListener("change", listener);
  };
  return () => useSyncExternalStore(subscribe, () => media.matches);
}

/** Phones and narrow windows: panels lie over the chat. */
export const useNarrow = follow("(max-width: 767px)");
/** Fingers rather than a mouse: a focused field brings up a keyboard that covers the page. */
export const useTouch = follow("(pointer: coarse)");
export const useDarkScreen = follow("(prefers-color-scheme: dark)");
