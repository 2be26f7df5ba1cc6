/** Which ratings count: of each rater the newest of a kind, unless it was taken back. */

import type { Rating } from "../api/types";

/** What a rating judges; one that says several things is one of each kind. */
function kindsOf(rating: Rating): string[] {
  const kinds: string[] = [];
  if (rating.thumb !== null) kinds.push("thumb");
  if (rating.scale !== null) kinds.push("scale");
  if (rating.edited !== null) kinds.push("edited");
  if (rating.compared !== null) kinds.push(`compared ${rating.compared.other_id}`);
  return kinds;
}

/** The ratings that count, each reduced to the kind of judgement that it is the newest of. */
export function countingRatings(ratings: readonly Rating[]): Rating[] {
  const newest = new Map<string, Rating>();
  const oldestFirst = [...ratings].sort((a, b) => a.created_at.localeCompare(b.created_at));
  for (const rating of oldestFirst) {
    const judged = JSON.stringify([rating.answer_id, rating.rater]);
    if (rating.retracted) {
      for (const key of [...newest.keys()]) if (key.startsWith(judged)) newest.delete(key);
      continue;
    }
    for (const kind of kindsOf(rating)) newest.set(`${judged} ${kind}`, only(rating, kind));
  }
  return [...newest.values()];
}

function only(rating: Rating, kind: string): Rating {
  return {
    ...rating,
    thumb: kind === "thumb" ? rating.thumb : null,
    scale: kind === "scale" ? rating.scale : null,
    edited: kind === "edited" ? rating.edited : null,
    compared: kind.startsWith("compared") ? rating.compared : null,
  };
}
