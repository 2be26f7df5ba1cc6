/** A rating from 1 to 5 and a comment: asked for, and shown below the answer. */

import { type FormEvent, useState } from "react";

import { Button, TextArea, useFocusBack } from "../ui";
import { useChat } from "./context";
import type { Judgement } from "./judgements";

const SCALE = [1, 2, 3, 4, 5];
const MEANS: Record<number, string> = { 1: "useless", 3: "fair", 5: "excellent" };

export function Rated({ scale, comment }: Judgement) {
  if (!scale && !comment) return null;
  return (
    <p className="rated">
      <span className="font-semibold">{scale ? `Your rating: ${scale} of 5` : "Your comment"}</span>
      {comment && <span className="break-words whitespace-pre-wrap">{comment}</span>}
    </p>
  );
}

export function RatingForm({ answerId, onClose }: { answerId: string; onClose: () => void }) {
  const { judging } = useChat();
  const before = judging.judgements.get(answerId);
  const [scale, setScale] = useState(before?.scale ?? null);
  const [comment, setComment] = useState(before?.comment ?? "");
  const [saving, setSaving] = useState(false);
  const ref = useFocusBack<HTMLFormElement>();
  const said = comment.trim();
  const save = async (event: FormEvent) => {
    event.preventDefault();
    setSaving(true);
    const kept = await judging.setGrade(answerId, { scale, comment: said || null });
    setSaving(false);
    if (kept) onClose();
  };
  return (
    <form
      ref={ref}
      className="below-answer"
      aria-label="Rate answer"
      onSubmit={(event) => void save(event)}
    >
      <fieldset>
        <legend className="label">How good is it?</legend>
        <div className="flex gap-1.5">
          {SCALE.map((value) => (
            <label key={value} className="scale-choice" title={MEANS[value]}>
              <input
                type="radio"
                name={`scale-${answerId}`}
                value={value}
                aria-label={MEANS[value] ? `${value}, ${MEANS[value]}` : String(value)}
                checked={scale === value}
                onChange={() => setScale(value)}
              />
              {value}
            </label>
          ))}
        </div>
      </fieldset>
      <TextArea
        label="Comment"
        placeholder="What is good or bad about it?"
        rows={2}
        value={comment}
        onChange={(event) => setComment(event.target.value)}
      />
      <div className="flex gap-2">
        <Button kind="primary" type="submit" disabled={saving || !(scale || said || before?.comment)}>
          Save rating
        </Button>
        <Button onClick={onClose}>Close</Button>
      </div>
    </form>
  );
}
