/** The chat: a conversation, and the thread that shows it. Mounted anew for every conversation. */

import {
  AssistantRuntimeProvider,
  type AppendMessage,
  useExternalMessageConverter,
  useExternalStoreRuntime,
} from "@assistant-ui/react";
import { useEffect, useState } from "react";

import { textOf } from "../api/langgraph";
import { conversation as shownConversation } from "../state/conversation";
import { route } from "../state/route";
import { prepareMarkdown } from "./AnswerText";
import type { ChatMessage } from "./chunks";
import { ChatContext } from "./context";
import { Thread } from "./Thread";
import { toThreadMessage } from "./toThreadMessage";
import { type Conversation, useConversation } from "./useConversation";
import { type Judging, useJudging } from "./useJudging";

const MAX_TITLE = 60;

export function Chat() {
  const [opened] = useState(openedThread);
  const conversation = useConversation(opened);
  const judging = useJudging(conversation.threadId);
  const runtime = useRuntime(conversation);
  usePublished(conversation, judging);
  useTitle(conversation.messages[0]);
  useEffect(whenIdle, []);
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ChatContext value={{ conversation, judging }}>
        <Thread />
      </ChatContext>
    </AssistantRuntimeProvider>
  );
}

/** What shows answers is fetched while the person still writes. */
function whenIdle(): void {
  if ("requestIdleCallback" in window) requestIdleCallback(prepareMarkdown);
  else setTimeout(prepareMarkdown, 500);
}

function useTitle(first: ChatMessage | undefined): void {
  const said = first ? textOf(first).trim().split("\n")[0] : "";
  useEffect(() => {
    document.title = said ? `${said.slice(0, MAX_TITLE)} · qwenkit` : "qwenkit";
  }, [said]);
}

function openedThread(): string | null {
  const shown = route.get();
  return shown.page === "chat" ? shown.threadId : null;
}

function useRuntime(conversation: Conversation) {
  const { messages, running, loading } = conversation;
  const shown = useExternalMessageConverter({
    callback: toThreadMessage,
    messages,
    isRunning: running,
  });
  return useExternalStoreRuntime({
    messages: shown,
    isRunning: running,
    isLoading: loading,
    onNew: (message) => conversation.send(writtenIn(message)),
    onEdit: (message) => conversation.edit(message.sourceId ?? "", writtenIn(message)),
    onCancel: async () => conversation.stop(),
  });
}

function writtenIn({ content }: AppendMessage): string {
  return content.map((part) => (part.type === "text" ? part.text : "")).join("");
}

/** Tells the page beside the chat what is shown. */
function usePublished({ threadId, messages, tree, running }: Conversation, judging: Judging): void {
  const { ratings } = judging;
  useEffect(() => {
    if (running) return;
    const branches = tree.branches();
    shownConversation.set({ threadId, messages, branches, ratings, running });
  }, [threadId, messages, tree, running, ratings]);
}
