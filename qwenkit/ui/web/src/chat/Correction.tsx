/** A person's own wording of an answer: written, and shown below it. */

import { type FormEvent, useState } from "react";

import { textOf } from "../api/langgraph";
import { Button, TextArea, useFocusBack } from "../ui";
import type { ChatMessage } from "./chunks";
import { useChat } from "./context";

export function Correction({ text }: { text: string }) {
  return (
    <details className="correction">
      <summary>Your correction</summary>
      <p className="mt-1 whitespace-pre-wrap">{text}</p>
    </details>
  );
}

export function CorrectionEditor({
  answer,
  onClose,
}: {
  answer: ChatMessage;
  onClose: () => void;
}) {
  const { judging } = useChat();
  const written = textOf(answer);
  const [text, setText] = useState(judging.judgements.get(answer.id)?.edited ?? written);
  const [saving, setSaving] = useState(false);
  const ref = useFocusBack<HTMLFormElement>();
  const save = async (event: FormEvent) => {
    event.preventDefault();
    setSaving(true);
    const kept = await judging.judge({ answer_id: answer.id, edited: { content: text } });
    setSaving(false);
    if (kept) onClose();
  };
  return (
    <form
      ref={ref}
      className="below-answer"
      aria-label="Correct answer"
      onSubmit={(event) => void save(event)}
    >
      <TextArea
        label="How it should have been"
        hint="Kept with the rating, as an example to learn from. The conversation stays as it is."
        rows={Math.min(16, Math.max(4, text.split("\n").length + 1))}
        value={text}
        autoFocus
        onChange={(event) => setText(event.target.value)}
      />
      <div className="flex gap-2">
        <Button kind="primary" type="submit" disabled={saving || !text.trim() || text === written}>
          Save correction
        </Button>
        <Button onClick={onClose}>Cancel</Button>
      </div>
    </form>
  );
}
