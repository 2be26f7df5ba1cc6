import { expect, test } from "vitest";

import { approvalsOf } from "./approvals";
import type { ChatMessage } from "./chunks";

const call = (id: string, name: string, args: Record<string, unknown>) => ({ id, name, args });
const asking = (...tool_calls: ReturnType<typeof call>[]): ChatMessage => ({
  id: "a",
  type: "ai",
  content: "",
  tool_calls,
});
const request = (name: string, args: Record<string, unknown>) => ({ name, args });
const ids = (value: unknown, messages: ChatMessage[]) =>
  approvalsOf(value, messages).map((each) => each.callId);

test("requests are matched with the calls that they are about, in the question's order", () => {
  const messages = [
    asking(call("1", "read", {}), call("2", "drop", { a: 1 }), call("3", "drop", { a: 2 })),
  ];
  const value = { action_requests: [request("drop", { a: 2 }), request("drop", { a: 1 })] };
  expect(ids(value, messages)).toEqual(["3", "2"]);
});

test("two equal calls get a request each", () => {
  const messages = [
    asking(call("1", "drop", { a: 1, b: [2] }), call("2", "drop", { b: [2], a: 1 })),
  ];
  const equal = request("drop", { b: [2], a: 1 });
  expect(ids({ action_requests: [equal, equal] }, messages)).toEqual(["1", "2"]);
});

test("a call that has its result is asked about no more", () => {
  const result: ChatMessage = { id: "t", type: "tool", content: "", tool_call_id: "1" };
  const messages = [asking(call("1", "drop", {}), call("2", "drop", {})), result];
  expect(ids({ action_requests: [request("drop", {})] }, messages)).toEqual(["2"]);
});

test("only what the tool's review allows can be decided", () => {
  const value = {
    action_requests: [request("drop", {})],
    review_configs: [{ action_name: "drop", allowed_decisions: ["approve"] }],
  };
  expect(approvalsOf(value, [asking(call("1", "drop", {}))])[0]?.allowed).toEqual(["approve"]);
});

test("where nothing is asked there are no approvals", () => {
  expect(approvalsOf(undefined, [])).toEqual([]);
});
