import { expect, test } from "vitest";

import { connectionOf, EMPTY_DRAFT, fieldOf, requestOf } from "./draft";

const DRAFT = { ...EMPTY_DRAFT, name: " issues ", url: " https://example.org/mcp " };

test("what is left empty is not sent", () => {
  expect(requestOf(DRAFT)).toEqual({ name: "issues", url: "https://example.org/mcp" });
});

test("a token becomes a bearer header", () => {
  const request = requestOf({ ...DRAFT, auth: "bearer", token: " secret " });
  expect(request.headers).toEqual({ Authorization: "Bearer secret" });
});

test("a test holds for another name and other free tools, but not for another token", () => {
  const tested = connectionOf(DRAFT);
  expect(connectionOf({ ...DRAFT, name: "other", allowed: ["ask"] })).toBe(tested);
  expect(connectionOf({ ...DRAFT, auth: "bearer", token: "x" })).not.toBe(tested);
});

test("an error finds its field", () => {
  expect(fieldOf("headers.Authorization")).toBe("headers");
  expect(fieldOf("tools[0]")).toBeNull();
  expect(fieldOf(null)).toBeNull();
});
