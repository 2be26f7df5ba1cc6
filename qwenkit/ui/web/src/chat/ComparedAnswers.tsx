/** Two answers side by side, and the choice between them. */

import {
  MessagePrimitive,
  ReadonlyThreadProvider,
  ThreadPrimitive,
  useExternalMessageConverter,
} from "@assistant-ui/react";
import { type ReactNode, useState } from "react";

import type { Verdict } from "../api/types";
import { Button } from "../ui";
import { AnswerParts } from "./AnswerParts";
import type { ChatMessage } from "./chunks";
import { useChat } from "./context";
import { CounterLine } from "./CounterLine";
import { toThreadMessage } from "./toThreadMessage";
import { lastWritten } from "./turns";
import { secondAnswer } from "./useConversation";

export function ComparedAnswers() {
  const { conversation } = useChat();
  const { comparison, messages } = conversation;
  if (!comparison) return null;
  const second = secondAnswer(messages, comparison);
  const writer = lastWritten(comparison.first)?.response_metadata?.model_name;
  return (
    <section className="comparison" aria-label="Comparison of two answers">
      <div className="comparison-columns">
        <Column name="Answer A" by={writer} messages={comparison.first}>
          <FirstAnswer messages={comparison.first} />
        </Column>
        <Column name="Answer B" by={comparison.title} messages={second}>
          <AnswerParts />
        </Column>
      </div>
      <Choice first={lastWritten(comparison.first)} second={lastWritten(second)} />
    </section>
  );
}

interface ColumnProps {
  name: string;
  by: string | undefined;
  messages: ChatMessage[];
  children: ReactNode;
}

function Column({ name, by, messages, children }: ColumnProps) {
  return (
    <section className="comparison-column" aria-label={name}>
      <h3 className="flex items-baseline gap-2 text-[14px] font-semibold">
        {name}
        <span className="truncate font-normal text-text-soft">{by}</span>
      </h3>
      <div className="min-w-0 flex-1">{children}</div>
      <CounterLine messages={messages} />
    </section>
  );
}

function FirstAnswer({ messages }: { messages: ChatMessage[] }) {
  const shown = useExternalMessageConverter({
    callback: toThreadMessage,
    messages,
    isRunning: false,
  });
  return (
    <ReadonlyThreadProvider messages={shown}>
      <ThreadPrimitive.Messages>
        {() => (
          <MessagePrimitive.Root>
            <AnswerParts />
          </MessagePrimitive.Root>
        )}
      </ThreadPrimitive.Messages>
    </ReadonlyThreadProvider>
  );
}

interface ChoiceProps {
  first: ChatMessage | null;
  second: ChatMessage | null;
}

function Choice({ first, second }: ChoiceProps) {
  const { conversation, judging } = useChat();
  const [chosen, setChosen] = useState(false);
  const free = !conversation.running && !chosen;
  const ready = free && first !== null && second !== null;
  const choose = async (verdict: Verdict) => {
    if (!first || !second) return;
    setChosen(true);
    if (judging.available) {
      await judging.judge({ answer_id: first.id, compared: { other_id: second.id, verdict } });
    }
    await conversation.endComparison(verdict === "better");
  };
  const button = (label: string, verdict: Verdict) => (
    <Button kind="outline" disabled={!ready} onClick={() => void choose(verdict)}>
      {label}
    </Button>
  );
  return (
    <div
      className="flex flex-wrap items-center justify-center gap-2"
      role="group"
      aria-label="Which is better?"
    >
      {button("A is better", "better")}
      {button("Both are alike", "tie")}
      {button("B is better", "worse")}
      <Button disabled={!free} onClick={() => void conversation.endComparison(true)}>
        Don't choose
      </Button>
    </div>
  );
}
