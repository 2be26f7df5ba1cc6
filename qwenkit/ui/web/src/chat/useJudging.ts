/** What the person thinks of the answers of a thread: read from the server's log, and written to
 * it.
 */

import { useCallback, useEffect, useMemo, useState } from "react";

import { rate, ratingsOf } from "../api/feedback";
import { ApiError, describeError } from "../api/http";
import type { NewRating, Rating } from "../api/types";
import { me } from "../state/me";
import { settings } from "../state/settings";
import { useStore } from "../state/store";
import { showToast } from "../state/toasts";
import { type Judgement, judgementsOf, NONE, statementsOf } from "./judgements";

export type Grade = Pick<Judgement, "scale" | "comment">;

export interface Judging {
  /** Whether the server keeps ratings. */
  available: boolean;
  /** Every rating of the thread, whoever it is from. */
  ratings: Rating[];
  /** What this person thinks now, by the answer's id. */
  judgements: ReadonlyMap<string, Judgement>;
  /** True where the rating was written down. */
  judge(rating: Omit<NewRating, "rater" | "thread_id">): Promise<boolean>;
  /** Writes down a place on the scale and a comment; one that is null now is taken back. */
  setGrade(answerId: string, grade: Grade): Promise<boolean>;
  /** Takes the thumb back, and keeps what else was said. */
  withdrawThumb(answerId: string): Promise<boolean>;
}

export function useJudging(threadId: string | null): Judging {
  const available = useStore(me, (known) => known?.features.feedback ?? false);
  const rater = useStore(settings, (chosen) => chosen.rater) || "anonymous";
  const [ratings, setRatings] = useState<Rating[]>([]);

  useEffect(() => {
    let current = true;
    if (available && threadId) {
      ratingsOf(threadId).then(
        (found) => current && setRatings((made) => joined(found, made)),
        (error: unknown) => showToast(describeError(error), "error"),
      );
    }
    return () => void (current = false);
  }, [available, threadId]);

  const judgements = useMemo(() => judgementsOf(ratings, rater), [ratings, rater]);

  const judge = useCallback<Judging["judge"]>(
    async (rating) => {
      try {
        const kept = await rate({ ...rating, rater, ...(threadId ? { thread_id: threadId } : {}) });
        setRatings((before) => [...before, kept]);
        return true;
      } catch (error) {
        showToast(explain(error), "error");
        return false;
      }
    },
    [rater, threadId],
  );

  /** All that was said of an answer can only be taken back together; the rest is said again. */
  const replace = async (answerId: string, judgement: Judgement) => {
    if (!(await judge({ answer_id: answerId, retracted: true }))) return false;
    for (const said of statementsOf(judgement)) {
      if (!(await judge({ answer_id: answerId, ...said }))) return false;
    }
    return true;
  };

  const withdrawThumb = (answerId: string) =>
    replace(answerId, { ...(judgements.get(answerId) ?? NONE), thumb: null });

  const setGrade = (answerId: string, grade: Grade) => {
    const before = judgements.get(answerId) ?? NONE;
    if (before.comment && !grade.comment) return replace(answerId, { ...before, ...grade });
    const [said = {}] = statementsOf({ ...NONE, ...grade });
    return judge({ answer_id: answerId, ...said });
  };

  return { available, ratings, judgements, judge, setGrade, withdrawThumb };
}

/** What the server told, and what was said while it was asked. */
function joined(found: Rating[], made: Rating[]): Rating[] {
  const known = new Set(found.map(({ id }) => id));
  return [...found, ...made.filter(({ id }) => !known.has(id))];
}

function explain(error: unknown): string {
  if (!(error instanceof ApiError)) return describeError(error);
  if (error.status === 404) return "This answer is not in the server's log, so it can't be rated.";
  return error.message;
}
