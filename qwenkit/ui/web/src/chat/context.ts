/** Hands the conversation to the components inside of it. */

import { getExternalStoreMessages, useAuiState } from "@assistant-ui/react";
import { createContext, useContext } from "react";

import type { ChatMessage } from "./chunks";
import type { Judging } from "./useJudging";
import type { Conversation } from "./useConversation";

export interface ChatContextValue {
  conversation: Conversation;
  judging: Judging;
}

export const ChatContext = createContext<ChatContextValue | null>(null);

export function useChat(): ChatContextValue {
  const value = useContext(ChatContext);
  if (!value) throw new Error("useChat is called outside of a chat");
  return value;
}

/** The thread's messages that form the shown one: an answer is several where tools were called. */
export function useInnerMessages(): ChatMessage[] {
  const message = useAuiState((state) => state.message);
  return getExternalStoreMessages<ChatMessage>(message);
}
