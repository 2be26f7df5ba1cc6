/** The conversation that is shown, for those beside the chat: export, window title. */

import type { StoredMessage } from "../api/langgraph";
import type { Rating } from "../api/types";
import { createStore } from "./store";

export interface Conversation {
  threadId: string | null;
  /** The shown branch, oldest first. */
  messages: StoredMessage[];
  /** Every branch's messages, the shown one included. */
  branches: StoredMessage[][];
  ratings: Rating[];
  running: boolean;
}

export const EMPTY: Conversation = {
  threadId: null,
  messages: [],
  branches: [],
  ratings: [],
  running: false,
};

export const conversation = createStore<Conversation>(EMPTY);
