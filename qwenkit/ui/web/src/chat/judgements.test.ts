import { expect, test } from "vitest";

import type { Rating } from "../api/types";
import { judgementsOf, NONE, statementsOf } from "./judgements";

let second = 0;
function rating(fields: Partial<Rating>): Rating {
  second += 1;
  const created_at = `2026-11-25T10:00:${String(second).padStart(2, "0")}Z`;
  return { answer_id: "a", rater: "me", retracted: false, created_at, ...fields } as Rating;
}

const mine = (...ratings: Rating[]) => judgementsOf(ratings, "me").get("a");

test("of each kind of judgement the newest counts", () => {
  const judged = mine(rating({ thumb: "up" }), rating({ scale: 4 }), rating({ thumb: "down" }));
  expect(judged).toMatchObject({ thumb: "down", scale: 4 });
});

test("a retracted rating takes back everything before it and nothing after it", () => {
  const judged = mine(
    rating({ thumb: "up", scale: 5 }),
    rating({ retracted: true }),
    rating({ scale: 2 }),
  );
  expect(judged).toMatchObject({ thumb: null, scale: 2 });
});

test("the order of time counts, not the order of arrival", () => {
  const first = rating({ thumb: "up" });
  const later = rating({ thumb: "down" });
  expect(mine(later, first)?.thumb).toBe("down");
});

test("what others think is not one's own judgement", () => {
  expect(mine(rating({ thumb: "up", rater: "you" }))).toBeUndefined();
});

test("comparisons with different answers stand beside one another", () => {
  const compared = (other_id: string, verdict: "better" | "worse") =>
    rating({ compared: { other_id, verdict } });
  const judged = mine(compared("b", "better"), compared("c", "worse"), compared("b", "worse"));
  expect([...(judged?.compared ?? [])]).toEqual([
    ["b", "worse"],
    ["c", "worse"],
  ]);
});

test("a judgement that is said anew comes to the same", () => {
  const judged = mine(
    rating({ thumb: "up", comment: "fine" }),
    rating({ scale: 2 }),
    rating({ edited: { content: "better" } }),
    rating({ compared: { other_id: "b", verdict: "tie" } }),
  );
  const anew = statementsOf(judged ?? NONE).map((said) => rating(said as Partial<Rating>));
  expect(mine(...anew)).toEqual(judged);
});

test("of no judgement there is nothing to say", () => {
  expect(statementsOf(NONE)).toEqual([]);
});
