import { expect, test } from "vitest";

import { canBeMarkdown } from "./limits";

test("what people and models write is Markdown", () => {
  const long = "Some **bold** words, and _more_ of them.\n\n".repeat(2000);
  expect(canBeMarkdown(long)).toBe(true);
  expect(canBeMarkdown("> > > quoted")).toBe(true);
});

test.each([
  ["marks that never end", "*a_".repeat(5000)],
  ["quotes without a bottom", `a\n${">".repeat(5000)} x`],
  ["a text without end", "word ".repeat(100_000)],
])("%s stay plain text, and that is known at once", (_name, text) => {
  const began = performance.now();
  expect(canBeMarkdown(text)).toBe(false);
  expect(performance.now() - began).toBeLessThan(200);
});
