import { expect, test } from "vitest";

import { nextToRead } from "./reading";

test("only whole sentences are read while the text grows", () => {
  expect(nextToRead("It is 3.5 m. And", 0, false)).toBe("It is 3.5 m.");
  expect(nextToRead("It is 3.5 m. And", 12, false)).toBe("");
});

test("a line's end ends a sentence, too", () => {
  expect(nextToRead("- one\n- two", 0, false)).toBe("- one\n");
});

test("the rest is read when the text is whole", () => {
  expect(nextToRead("It is so. And more", 9, true)).toBe(" And more");
});

test("read piece by piece, nothing is left out and nothing is read twice", () => {
  const text = "One. Two! Three?\nFour: five. Six";
  let read = "";
  for (let length = 1; length <= text.length; length++) {
    read += nextToRead(text.slice(0, length), read.length, length === text.length);
  }
  expect(read).toBe(text);
});
