import { expect, test } from "vitest";

import { findThreads, searchable } from "./find";
import { titleOf } from "./title";

const thread = (title: string, text: string) =>
  searchable({ id: title, title, named: false, changedAt: new Date(0), status: "idle" }, text);

test("a word is found in any case, in titles and in texts", () => {
  const threads = [
    thread("Adapters", "nothing"),
    thread("Sheep", "Load an ADAPTER"),
    thread("Goats", "grass"),
  ];
  const found = findThreads(threads, " adapter ").map((hit) => hit.summary.title);
  expect(found).toEqual(["Adapters", "Sheep"]);
});

test("an excerpt shows the match as it was written, with what stands around it", () => {
  const text = `${"before ".repeat(20)}Größe${" after".repeat(40)}`;
  const excerpt = findThreads([thread("Maße", text)], "größe")[0]?.excerpt;
  expect(excerpt?.match).toBe("Größe");
  expect(excerpt?.before).toMatch(/^….*before $/);
  expect(excerpt?.after).toMatch(/^ after.*…$/);
});

test("letters whose lower case is longer do not shift the match", () => {
  expect(findThreads([thread("x", "İİİ token")], "token")[0]?.excerpt?.match).toBe("token");
});

test("a long first line is cut at a word", () => {
  const title = titleOf(`\n  ${"word ".repeat(40)}\nsecond`);
  expect(title).toMatch(/^(word )+word…$/);
  expect(title.length).toBeLessThanOrEqual(81);
});

test("a conversation without text has a title all the same", () => {
  expect(titleOf("  \n ")).toBe("New chat");
});
