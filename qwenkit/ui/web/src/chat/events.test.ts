import { expect, test } from "vitest";

import type { ChatMessage } from "./chunks";
import { type ServerEvent, toRuntimeEvents } from "./events";

async function* streamed(...events: ServerEvent[]) {
  yield* events;
}

const chunk = (fields: object) => ({
  event: "messages",
  data: [{ id: "a", type: "AIMessageChunk", content: "", ...fields }, {}],
});
const thought = (text: string) => chunk({ additional_kwargs: { reasoning_content: text } });

async function read(...events: ServerEvent[]) {
  const seen = { runs: [] as string[], errors: [] as string[] };
  const listener = {
    onRun: (id: string) => void seen.runs.push(id),
    onError: (message: string) => void seen.errors.push(message),
  };
  let now = 0;
  const told = [];
  for await (const event of toRuntimeEvents(streamed(...events), listener, () => (now += 1000))) {
    told.push(event);
  }
  return { ...seen, told };
}

const last = (told: { data: unknown }[]) => (told.at(-1)?.data as ChatMessage[])[0] as ChatMessage;

test("thinking, text and counters of chunks are joined into one message", async () => {
  const { told } = await read(
    thought("I "),
    thought("think"),
    chunk({ content: "Hel" }),
    chunk({ content: "lo", usage_metadata: { output_tokens: 4 } }),
  );
  const message = last(told);
  expect(message.content).toBe("Hello");
  expect(message.additional_kwargs?.reasoning_content).toBe("I think");
  expect(message.usage_metadata?.output_tokens).toBe(4);
  expect(message.live).toMatchObject({ n_chunks: 4, startedAt: 1000, thoughtUntil: 3000 });
});

test("the times of a run that is joined are those of its events", async () => {
  const { told } = await read(
    { id: "5000-0", ...thought("I think") },
    { id: "9000-3", ...chunk({ content: "Hello" }) },
  );
  expect(last(told).live).toMatchObject({ startedAt: 5000, thoughtUntil: 9000 });
});

test("pieces of two tool calls become two calls with their arguments as they are written", async () => {
  const piece = (index: number, fields: object) =>
    chunk({ tool_call_chunks: [{ index, ...fields }] });
  const { told } = await read(
    piece(0, { id: "c1", name: "add", args: '{"a":' }),
    piece(1, { id: "c2", name: "sub", args: "{}" }),
    piece(0, { args: "1}" }),
  );
  const calls = last(told).tool_calls?.map(({ id, name, partial }) => [id, name, partial]);
  expect(calls).toEqual([
    ["c1", "add", '{"a":1}'],
    ["c2", "sub", "{}"],
  ]);
});

test("a state replaces what was streamed, and keeps how it came in", async () => {
  const whole = { id: "a", type: "ai", content: "Hello" };
  const { told } = await read(chunk({ content: "Hel" }), {
    event: "values",
    data: { messages: [whole] },
  });
  const { messages } = told.at(-1)?.data as { messages: ChatMessage[] };
  expect(messages[0]).toMatchObject({ content: "Hello", live: { n_chunks: 1 } });
});

test("a question to the person is told as an interrupt, and a new run takes it back first", async () => {
  const asked = [{ id: "i", value: { action_requests: [] } }];
  const { told } = await read({ event: "values", data: { messages: [], __interrupt__: asked } });
  expect(told[0]).toEqual({ event: "updates", data: {} });
  expect(told.at(-1)).toEqual({ event: "updates", data: { __interrupt__: asked } });
});

test("the run's id and its failure are told to the listener", async () => {
  const { runs, errors } = await read(
    { event: "metadata", data: { run_id: "r1" } },
    { event: "error", data: { error: "RuntimeError", message: "model exploded" } },
  );
  expect(runs).toEqual(["r1"]);
  expect(errors).toEqual(["model exploded"]);
});
