/** Which of two answers people prefer, by the rule of `qwenkit feedback export`.
 *
 * Of two answers the first kind of judgement that anybody gave decides: comparisons; raters who rated
 * both; more thumbs up here and more down there. Ties, balances and circles make no preference.
 */

import type { Rating } from "../api/types";
import type { Answer } from "./branches";

export interface Preference {
  winner: string;
  loser: string;
}

interface Count {
  first: number;
  second: number;
  ties: number;
}

type Lead = -1 | 0 | 1;
type Kind = (ratings: readonly Rating[], a: string, b: string) => Lead[];

const VERDICTS = { better: 1, worse: -1, tie: 0 } as const;
const LEVELS: readonly Kind[] = [compared, ratedByOne, ratedByOthers];

/** The preferences between answers to one prompt; the ratings are those that count. */
export function preferencesOf(answers: readonly Answer[], ratings: readonly Rating[]): Preference[] {
  const pairs = answers.flatMap((a, index) =>
    answers.slice(index + 1).map((b) => [a.id, b.id] as const),
  );
  const decided = new Set<string>();
  let kept: Preference[] = [];
  for (const kind of LEVELS) {
    const found: Preference[] = [];
    for (const [a, b] of pairs) {
      const key = JSON.stringify([a, b]);
      const leads = decided.has(key) ? [] : kind(ratings, a, b);
      if (leads.length === 0) continue;
      decided.add(key);
      const preference = majority(counted(leads), a, b);
      if (preference) found.push(preference);
    }
    const all = [...kept, ...found];
    kept = [...kept, ...found.filter((each) => !reaches(all, each.loser, each.winner))];
  }
  return kept;
}

function counted(leads: readonly Lead[]): Count {
  const n = (lead: Lead) => leads.filter((each) => each === lead).length;
  return { first: n(1), second: n(-1), ties: n(0) };
}

function majority({ first, second, ties }: Count, a: string, b: string): Preference | null {
  if (first === second || Math.max(first, second) < ties) return null;
  return first > second ? { winner: a, loser: b } : { winner: b, loser: a };
}

/** The newest comparison of each rater, whichever of the two answers it was given to. */
function compared(ratings: readonly Rating[], a: string, b: string): Lead[] {
  const byRater = new Map<string, { lead: Lead; at: string }>();
  for (const { compared: said, answer_id, rater, created_at } of ratings) {
    const forward = answer_id === a && said?.other_id === b;
    const backward = answer_id === b && said?.other_id === a;
    if (!said || !(forward || backward)) continue;
    const verdict = VERDICTS[said.verdict];
    const lead = (forward ? verdict : 0 - verdict) as Lead;
    const before = byRater.get(rater);
    if (!before || before.at <= created_at) byRater.set(rater, { lead, at: created_at });
  }
  return [...byRater.values()].map((each) => each.lead);
}

/** What one rater thinks of one answer. */
interface Opinion {
  thumb: Rating | null;
  scale: Rating | null;
}

function opinionsOf(ratings: readonly Rating[], answer: string): Map<string, Opinion> {
  const opinions = new Map<string, Opinion>();
  for (const rating of ratings) {
    if (rating.answer_id !== answer || (rating.thumb === null && rating.scale === null)) continue;
    const before = opinions.get(rating.rater) ?? { thumb: null, scale: null };
    opinions.set(rating.rater, {
      thumb: rating.thumb === null ? before.thumb : rating,
      scale: rating.scale === null ? before.scale : rating,
    });
  }
  return opinions;
}

/** 1 for liked, -1 for disliked; where thumb and scale contradict each other the newer one counts. */
function signOf({ thumb, scale }: Opinion): Lead {
  const byThumb: Lead = thumb ? (thumb.thumb === "up" ? 1 : -1) : 0;
  const byScale = Math.sign((scale?.scale ?? 3) - 3) as Lead;
  if (byThumb * byScale >= 0) return byThumb || byScale;
  if (!thumb || !scale || thumb.id === scale.id) return 0;
  return thumb.created_at > scale.created_at ? byThumb : byScale;
}

function ratedByOne(ratings: readonly Rating[], a: string, b: string): Lead[] {
  const others = opinionsOf(ratings, b);
  return [...opinionsOf(ratings, a)].flatMap(([rater, first]) => {
    const second = others.get(rater);
    const lead = second ? leadOf(first, second) : null;
    return lead === null ? [] : [lead];
  });
}

/** Null where the two can't be compared. */
function leadOf(first: Opinion, second: Opinion): Lead | null {
  const [one, other] = [first.scale?.scale, second.scale?.scale];
  if (one != null && other != null) return Math.sign(one - other) as Lead;
  const [sign, otherSign] = [signOf(first), signOf(second)];
  return sign && otherSign ? (Math.sign(sign - otherSign) as Lead) : null;
}

function ratedByOthers(ratings: readonly Rating[], a: string, b: string): Lead[] {
  const support = (answer: string) =>
    [...opinionsOf(ratings, answer).values()].reduce((sum, each) => sum + signOf(each), 0);
  const [one, other] = [support(a), support(b)];
  return one * other < 0 ? [Math.sign(one) as Lead] : [];
}

function reaches(edges: readonly Preference[], from: string, to: string): boolean {
  const seen = new Set([from]);
  for (const node of seen) {
    for (const edge of edges) if (edge.winner === node) seen.add(edge.loser);
  }
  return seen.has(to);
}
