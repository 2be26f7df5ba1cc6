import { expect, test } from "vitest";

import type { StoredMessage } from "../api/langgraph";
import type { Rating } from "../api/types";
import { answersOf, conversationsOf, type State } from "./branches";
import { pairsOf } from "./pairs";

const human = (id: string, content: string): StoredMessage => ({ id, type: "human", content });
const ai = (id: string, content: string): StoredMessage => ({
  id,
  type: "ai",
  content,
  additional_kwargs: { reasoning_content: `about ${content}` },
});

let clock = 0;

function state(id: string, parent: string | null, messages: StoredMessage[]): State {
  const checkpoint = (checkpoint_id: string) => ({
    checkpoint_id,
    thread_id: "t",
    checkpoint_ns: "",
    checkpoint_map: null,
  });
  return {
    values: { messages },
    next: [],
    tasks: [],
    checkpoint: checkpoint(id),
    parent_checkpoint: parent === null ? null : checkpoint(parent),
    metadata: { system_prompt: "Be brief.", thinking: true },
    created_at: String(++clock).padStart(6, "0"),
  } as unknown as State;
}

/** A question with one answer for each text, as regenerating makes them; newest state first. */
function answered(...texts: string[]): State[] {
  const question = human("q", "Why?");
  const begin = state("begin", null, [question]);
  const ends = texts.map((text) => state(text, "begin", [question, ai(text, text)]));
  return [begin, ...ends].reverse();
}

function rating(answer_id: string, said: Partial<Rating>): Rating {
  return {
    schema: 1,
    kind: "rating",
    id: `rating-${++clock}`,
    created_at: String(clock).padStart(6, "0"),
    answer_id,
    thread_id: "t",
    rater: "ada",
    source: "ui",
    thumb: null,
    scale: null,
    comment: null,
    compared: null,
    edited: null,
    external_id: null,
    retracted: false,
    ...said,
  };
}

const chosenOf = (states: State[], ratings: Rating[]) =>
  pairsOf(answersOf(states), ratings, false).map((pair) => [
    pair.chosen[0].content,
    pair.rejected[0].content,
  ]);

test("a thumb up and one down on answers to the same prompt make a pair", () => {
  const states = answered("good", "bad");
  const [pair] = pairsOf(
    answersOf(states),
    [rating("good", { thumb: "up" }), rating("bad", { thumb: "down" })],
    true,
  );
  expect(pair).toEqual({
    prompt: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Why?" },
    ],
    chosen: [{ role: "assistant", content: "good", reasoning_content: "about good" }],
    rejected: [{ role: "assistant", content: "bad", reasoning_content: "about bad" }],
    chat_template_kwargs: { enable_thinking: true },
  });
});

test("answers to different prompts never make a pair", () => {
  const states = [
    ...answered("good"),
    state("other", null, [human("p", "How?"), ai("bad", "bad")]),
  ];
  const ratings = [rating("good", { thumb: "up" }), rating("bad", { thumb: "down" })];
  expect(chosenOf(states, ratings)).toEqual([]);
});

test("a comparison outweighs thumbs that say the opposite", () => {
  const ratings = [
    rating("a", { thumb: "up" }),
    rating("b", { thumb: "down" }),
    rating("a", { compared: { other_id: "b", verdict: "worse" }, rater: "grace" }),
  ];
  expect(chosenOf(answered("a", "b"), ratings)).toEqual([["b", "a"]]);
});

test("of one rater the newest comparison counts, whichever answer it was given to", () => {
  const ratings = [
    rating("a", { compared: { other_id: "b", verdict: "better" } }),
    rating("b", { compared: { other_id: "a", verdict: "better" } }),
  ];
  expect(chosenOf(answered("a", "b"), ratings)).toEqual([["b", "a"]]);
});

test("raters who contradict each other make no pair, and neither does a tie", () => {
  const against = [
    rating("a", { compared: { other_id: "b", verdict: "better" } }),
    rating("b", { compared: { other_id: "a", verdict: "better" }, rater: "grace" }),
  ];
  const tie = [rating("a", { compared: { other_id: "b", verdict: "tie" } })];
  expect(chosenOf(answered("a", "b"), against)).toEqual([]);
  expect(chosenOf(answered("a", "b"), tie)).toEqual([]);
});

test("preferences that go round in a circle make no pair", () => {
  const better = (a: string, b: string) =>
    rating(a, { compared: { other_id: b, verdict: "better" } });
  const circle = [better("a", "b"), better("b", "c"), better("c", "a")];
  expect(chosenOf(answered("a", "b", "c"), circle)).toEqual([]);
  expect(chosenOf(answered("a", "b", "c"), circle.slice(0, 2))).toHaveLength(2);
});

test("a rating that was taken back does not count", () => {
  const ratings = [
    rating("a", { scale: 5 }),
    rating("b", { scale: 2 }),
    rating("b", { retracted: true }),
  ];
  expect(chosenOf(answered("a", "b"), ratings.slice(0, 2))).toEqual([["a", "b"]]);
  expect(chosenOf(answered("a", "b"), ratings)).toEqual([]);
});

test("a correction is preferred to what it corrects, and keeps its thinking", () => {
  const ratings = [rating("a", { edited: { content: "better" } })];
  const [pair] = pairsOf(answersOf(answered("a")), ratings, true);
  expect(pair?.chosen[0]).toEqual({
    role: "assistant",
    content: "better",
    reasoning_content: "about a",
  });
  expect(pair?.rejected[0].content).toBe("a");
});

test("a correction that changes nothing makes no pair", () => {
  expect(chosenOf(answered("a"), [rating("a", { edited: { content: "a" } })])).toEqual([]);
});

test("every branch of a thread is a conversation, the newest first", () => {
  const found = conversationsOf(answered("a", "b"));
  expect(found.map((each) => each.messages.at(-1)?.content)).toEqual(["b", "a"]);
});
