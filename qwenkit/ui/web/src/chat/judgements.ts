/** What a person's ratings come to: of each kind the newest counts, and a retracted one takes back
 * all before it. Pure.
 */

import type { NewRating, Rating, Thumb, Verdict } from "../api/types";

export interface Judgement {
  thumb: Thumb | null;
  scale: number | null;
  comment: string | null;
  /** The person's own wording of the answer. */
  edited: string | null;
  /** By the other answer's id. */
  compared: ReadonlyMap<string, Verdict>;
}

export const NONE: Judgement = {
  thumb: null,
  scale: null,
  comment: null,
  edited: null,
  compared: new Map(),
};

/** By the answer's id. */
export function judgementsOf(
  ratings: readonly Rating[],
  rater: string,
): ReadonlyMap<string, Judgement> {
  const judged = new Map<string, Judgement>();
  const ordered = ratings.filter((rating) => rating.rater === rater).sort(byTime);
  for (const rating of ordered) {
    const before = judged.get(rating.answer_id) ?? NONE;
    judged.set(rating.answer_id, rating.retracted ? NONE : add(before, rating));
  }
  return judged;
}

/** The ratings that say a judgement anew, each of one kind: kinds may contradict one another. */
export function statementsOf(judgement: Judgement): Omit<NewRating, "answer_id">[] {
  const { thumb, scale, comment, edited, compared } = judgement;
  const graded = { ...(scale ? { scale } : {}), ...(comment ? { comment } : {}) };
  return [
    ...(scale || comment ? [graded] : []),
    ...(thumb ? [{ thumb }] : []),
    ...(edited !== null ? [{ edited: { content: edited } }] : []),
    ...[...compared].map(([other_id, verdict]) => ({ compared: { other_id, verdict } })),
  ];
}

function add(before: Judgement, rating: Rating): Judgement {
  const { compared } = rating;
  return {
    thumb: rating.thumb ?? before.thumb,
    scale: rating.scale ?? before.scale,
    comment: rating.comment ?? before.comment,
    edited: rating.edited?.content ?? before.edited,
    compared: compared
      ? new Map([...before.compared, [compared.other_id, compared.verdict]])
      : before.compared,
  };
}

function byTime(left: Rating, right: Rating): number {
  return left.created_at < right.created_at ? -1 : left.created_at > right.created_at ? 1 : 0;
}
