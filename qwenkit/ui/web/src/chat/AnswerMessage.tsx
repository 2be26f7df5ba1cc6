/** The model's answer: what it thought, which tools it called, what it said, and what can be done
 * with it.
 */

import { MessagePrimitive, useAuiState } from "@assistant-ui/react";
import { useState } from "react";

import { Note } from "../ui";
import { AnswerActions } from "./AnswerActions";
import { AnswerParts } from "./AnswerParts";
import type { ChatMessage } from "./chunks";
import { ComparedAnswers } from "./ComparedAnswers";
import { useChat, useInnerMessages } from "./context";
import { Correction, CorrectionEditor } from "./Correction";
import { CounterLine } from "./CounterLine";
import { Rated, RatingForm } from "./RatingForm";
import { lastWritten } from "./turns";

/** What is open below an answer. */
export type OpenForm = "rating" | "correction" | null;

export function AnswerMessage() {
  const compared = useIsCompared();
  return (
    <MessagePrimitive.Root className="answer" data-role="assistant">
      <h2 className="sr-only">Answer</h2>
      {compared ? <ComparedAnswers /> : <SingleAnswer />}
    </MessagePrimitive.Root>
  );
}

function SingleAnswer() {
  const inner = useInnerMessages();
  const [form, setForm] = useState<OpenForm>(null);
  const { conversation, judging } = useChat();
  const answered = lastWritten(inner);
  const isLast = useAuiState((state) => state.message.isLast);
  const open = isLast && (conversation.running || conversation.approvals.length > 0);
  const close = () => setForm(null);
  const judgement = answered && judging.judgements.get(answered.id);
  return (
    <>
      <AnswerParts />
      {isLast && conversation.running && <CounterLine messages={inner} />}
      {!open && answered && (
        <>
          <Ending message={answered} />
          {judgement?.edited && form !== "correction" && <Correction text={judgement.edited} />}
          <AnswerActions answer={answered} form={form} onOpen={setForm} />
          {judgement && form !== "rating" && <Rated {...judgement} />}
          {form === "rating" && <RatingForm answerId={answered.id} onClose={close} />}
          {form === "correction" && <CorrectionEditor answer={answered} onClose={close} />}
        </>
      )}
    </>
  );
}

function Ending({ message }: { message: ChatMessage }) {
  const reason = message.response_metadata?.finish_reason;
  if (reason === "cancelled") return <p className="ending">Stopped before it was finished.</p>;
  if (reason === "length") {
    return <Note kind="warn">The answer was cut off at the most tokens that it may have.</Note>;
  }
  return null;
}

function useIsCompared(): boolean {
  const { comparison, messages } = useChat().conversation;
  const first = useInnerMessages()[0];
  if (!comparison) return false;
  const at = messages[comparison.index];
  return at ? at.id === first?.id : !first;
}
