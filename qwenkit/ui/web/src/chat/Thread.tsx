/** The messages, what to say first, and the place to write. */

import { AuiIf, ThreadPrimitive } from "@assistant-ui/react";

import { Icon, Note, Spinner } from "../ui";
import { AnswerMessage } from "./AnswerMessage";
import { Composer } from "./Composer";
import { useChat } from "./context";
import { LiveRegion } from "./LiveRegion";
import { RunProblem } from "./RunProblem";
import { UserMessage } from "./UserMessage";
import { Welcome } from "./Welcome";

export function Thread() {
  const { conversation } = useChat();
  return (
    <ThreadPrimitive.Root className="thread">
      <ThreadPrimitive.Viewport
        className="thread-viewport"
        tabIndex={0}
        aria-label="Conversation"
        role="region"
      >
        {conversation.messages.length > 0 && <h1 className="sr-only">Conversation</h1>}
        <AuiIf condition={(state) => state.thread.isEmpty && !state.thread.isLoading}>
          {!conversation.error && <Welcome />}
        </AuiIf>
        {conversation.loading && <Spinner label="Loading the conversation" />}
        <div className="thread-messages">
          <ThreadPrimitive.Messages>
            {({ message }) => (message.role === "user" ? <UserMessage /> : <AnswerMessage />)}
          </ThreadPrimitive.Messages>
          {conversation.complaint && <Note kind="warn">{conversation.complaint}</Note>}
          <RunProblem />
        </div>
        <ThreadPrimitive.ViewportFooter className="thread-footer">
          <ThreadPrimitive.ScrollToBottom
            className="scroll-down"
            aria-label="Scroll to the newest message"
          >
            <Icon name="down" />
          </ThreadPrimitive.ScrollToBottom>
          <Composer />
        </ThreadPrimitive.ViewportFooter>
      </ThreadPrimitive.Viewport>
      <LiveRegion />
    </ThreadPrimitive.Root>
  );
}
