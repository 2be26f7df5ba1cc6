import { expect, test } from "vitest";

import { hasAll, withIds, written } from "./unsent";

test("a message keeps its id when it is sent again", () => {
  const [first] = withIds([written("hello")]);
  expect(first && withIds([first])).toEqual([first]);
});

test("messages of the same text have ids of their own", () => {
  const [one, other] = withIds([written("hello"), written("hello")]);
  expect(one?.id).not.toBe(other?.id);
});

test("messages have arrived when the thread has all of them", () => {
  const sent = withIds([written("one"), written("two")]);
  expect(hasAll(sent, sent)).toBe(true);
  expect(hasAll(sent.slice(0, 1), sent)).toBe(false);
  expect(hasAll([], [])).toBe(true);
});
