/** What can be done with an answer, and how many tokens it took. */

import { useState } from "react";

import { textOf } from "../api/langgraph";
import type { Thumb } from "../api/types";
import { IconButton } from "../ui";
import type { OpenForm } from "./AnswerMessage";
import type { ChatMessage } from "./chunks";
import { CompareDialog } from "./CompareDialog";
import { useChat, useInnerMessages } from "./context";
import { CopyButton } from "./CopyButton";
import { CounterLine } from "./CounterLine";
import { VersionPicker } from "./VersionPicker";

interface AnswerActionsProps {
  answer: ChatMessage;
  form: OpenForm;
  onOpen: (form: OpenForm) => void;
}

export function AnswerActions({ answer, form, onOpen }: AnswerActionsProps) {
  const { conversation, judging } = useChat();
  const inner = useInnerMessages();
  const [comparing, setComparing] = useState(false);
  const { running } = conversation;
  return (
    <div className="actions" role="group" aria-label="Answer actions">
      <VersionPicker of="answer" />
      <CopyButton label="Copy answer" text={() => textOf(answer)} />
      <IconButton
        icon="retry"
        label="Regenerate"
        size={16}
        disabled={running}
        onClick={() => void conversation.regenerate(answer.id)}
      />
      <IconButton
        icon="compare"
        label="Compare with another answer"
        size={16}
        disabled={running}
        onClick={() => setComparing(true)}
      />
      {judging.available && <Judge answerId={answer.id} form={form} onOpen={onOpen} />}
      <CounterLine messages={inner} />
      {comparing && <CompareDialog answer={answer} onClose={() => setComparing(false)} />}
    </div>
  );
}

interface JudgeProps {
  answerId: string;
  form: OpenForm;
  onOpen: (form: OpenForm) => void;
}

function Judge({ answerId, form, onOpen }: JudgeProps) {
  const { judging } = useChat();
  const [saving, setSaving] = useState(false);
  const judgement = judging.judgements.get(answerId);
  const press = async (name: Thumb) => {
    if (saving) return;
    setSaving(true);
    if (judgement?.thumb === name) await judging.withdrawThumb(answerId);
    else if (await judging.judge({ answer_id: answerId, thumb: name })) onOpen("rating");
    setSaving(false);
  };
  const thumb = (name: Thumb) => ({
    "aria-pressed": judgement?.thumb === name,
    size: 16,
    onClick: () => void press(name),
  });
  const toggle = (name: OpenForm) => () => onOpen(form === name ? null : name);
  return (
    <>
      <IconButton icon="thumbUp" label="Good answer" {...thumb("up")} />
      <IconButton icon="thumbDown" label="Bad answer" {...thumb("down")} />
      <IconButton
        icon="star"
        label={judgement?.scale ? `Rate answer (${judgement.scale} of 5)` : "Rate answer"}
        size={16}
        aria-expanded={form === "rating"}
        aria-pressed={judgement?.scale != null}
        onClick={toggle("rating")}
      />
      <IconButton
        icon="pen"
        label="Correct answer"
        size={16}
        aria-expanded={form === "correction"}
        aria-pressed={judgement?.edited != null}
        onClick={toggle("correction")}
      />
    </>
  );
}
