/** Tells the thread list that a conversation was made, changed or finished an answer. */

import { createStore } from "./store";

/** Counts the changes; whoever lists threads reads them again when it grows. */
export const threadsVersion = createStore(0);

export const threadsChanged = (): void => threadsVersion.set((before) => before + 1);
