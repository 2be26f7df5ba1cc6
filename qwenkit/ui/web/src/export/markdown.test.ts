import { expect, test } from "vitest";

import { fileName } from "./download";
import { markdownOf } from "./markdown";

test("thinking is folded away, and left out when it is not wanted", () => {
  const messages = [
    { type: "ai" as const, content: "Yes.", additional_kwargs: { reasoning_content: "Hm." } },
  ];
  expect(markdownOf("T", messages, true)).toContain("<summary>Thinking</summary>\n\nHm.");
  expect(markdownOf("T", messages, false)).toBe("# T\n\n## Assistant\n\nYes.\n");
});

test("a tool's result that has fences of its own stays in one block", () => {
  const text = markdownOf("T", [{ type: "tool", name: "read", content: "```\ncode\n```" }], true);
  expect(text).toContain("````\n```\ncode\n```\n````");
});

test("a file is called after its title, with nothing that a file system minds", () => {
  expect(fileName("What is a/b\\c? «Größe»", "md")).toBe("what-is-a-b-c-größe.md");
  expect(fileName("???", "jsonl")).toBe("chat.jsonl");
});
