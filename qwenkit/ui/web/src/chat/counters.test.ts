import { expect, test } from "vitest";

import type { ChatMessage } from "./chunks";
import { countersOf, formatSeconds, thinkingSeconds } from "./counters";

const written = (output: number, decode_s: number, thinking_s?: number): ChatMessage => ({
  id: "a",
  type: "ai",
  content: "",
  usage_metadata: { input_tokens: 10, output_tokens: output, total_tokens: 10 + output },
  response_metadata: { timings: { queue_s: 0.1, prefill_s: 0.2, decode_s, thinking_s } },
});

test("an answer of several messages counts all of their tokens and seconds", () => {
  const counters = countersOf([written(30, 1), written(50, 1)]);
  expect(counters).toMatchObject({ tokens: 80, perSecond: 40, context: 60, estimated: false });
  expect(counters?.waited).toBeCloseTo(0.3);
});

test("while an answer is written its pieces are counted, and the count is called an estimate", () => {
  const live = { startedAt: 0, latestAt: 2000, n_chunks: 20, thoughtUntil: null };
  const counters = countersOf([{ id: "a", type: "ai", content: "", live }]);
  expect(counters).toMatchObject({ tokens: 20, perSecond: 10, estimated: true });
});

test("one token has no speed", () => {
  expect(countersOf([written(1, 0.5)])?.perSecond).toBeNull();
});

test("nothing written has no counters", () => {
  expect(countersOf([{ id: "h", type: "human", content: "x" }])).toBeNull();
});

test("the server's measure of the thinking counts before one's own", () => {
  const live = { startedAt: 0, latestAt: 9000, n_chunks: 9, thoughtUntil: 5000 };
  expect(thinkingSeconds({ ...written(1, 1, 2.5), live })).toBe(2.5);
  expect(thinkingSeconds({ id: "a", type: "ai", content: "", live })).toBe(5);
});

test("seconds are told as people say them", () => {
  expect([0.04, 9.94, 9.96, 59.6, 125].map(formatSeconds)).toEqual([
    "< 0.1 s",
    "9.9 s",
    "10 s",
    "1 min 0 s",
    "2 min 5 s",
  ]);
});
