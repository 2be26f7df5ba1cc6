// Every route of the agent's API by npm's @langchain/langgraph-sdk.
// Arguments: the package's file, the API's URL, an API key.
import assert from "node:assert/strict";

const [, , sdk, apiUrl, apiKey] = process.argv;
const { Client } = await import(sdk);
const client = new Client({ apiUrl, apiKey });

const say = (text) => ({ messages: [{ type: "human", content: text }] });
const last = (values) => values.messages.at(-1).content;
const named = (parts, name) => parts.filter((part) => part.event === name).map((part) => part.data);
async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

async function assistants() {
  assert.equal((await client.assistants.get("agent")).graph_id, "agent");
  assert.equal((await client.assistants.search({ graphId: "agent" })).length, 1);
  assert.equal((await client.assistants.getGraph("agent")).nodes.length, 4);
  assert.ok((await client.assistants.getSchemas("agent")).input_schema);
  assert.deepEqual(await client.assistants.getSubgraphs("agent"), {});
  const config = { configurable: { temperature: 0 } };
  const made = await client.assistants.create({ graphId: "agent", name: "One", config });
  const id = made.assistant_id;
  assert.equal((await client.assistants.update(id, { name: "Two" })).version, 2);
  assert.equal((await client.assistants.getVersions(id)).length, 2);
  assert.equal((await client.assistants.setLatest(id, 1)).name, "One");
  assert.equal(await client.assistants.count(), 2);
  await client.assistants.delete(id);
  await assert.rejects(client.assistants.get(id), /404/);
}

async function runs(id) {
  let created;
  const streamMode = ["values", "messages-tuple", "updates", "custom", "debug", "events"];
  const options = { streamMode, streamSubgraphs: true, streamResumable: true };
  const onRunCreated = (run) => (created = run);
  const parts = await collect(
    client.runs.stream(id, "agent", { input: say("hello"), ...options, onRunCreated }),
  );
  assert.equal(created.thread_id, id);
  assert.equal(parts[0].event, "metadata");
  assert.ok(named(parts, "messages").some(([chunk]) => chunk.content === "H"));
  assert.equal(last(named(parts, "values").at(-1)), "Hello there!");
  const joined = await collect(
    client.runs.joinStream(id, created.run_id, { lastEventId: "-1", streamMode: "values" }),
  );
  assert.deepEqual(named(joined, "values"), named(parts, "values"));
  assert.equal((await client.runs.get(id, created.run_id)).status, "success");
  assert.equal((await client.runs.list(id)).length, 1);
  assert.equal(last(await client.runs.wait(id, "agent", { input: say("encore") })), "Once more.");
  const run = await client.runs.create(id, "agent", { input: say("hello") });
  assert.equal(last(await client.runs.join(id, run.run_id)), "Hello there!");
  await client.runs.cancel(id, run.run_id, true);
  await client.runs.delete(id, run.run_id);
  await assert.rejects(
    client.runs.wait(id, "agent", { input: say("x"), webhook: "http://example.com" }),
    /400/,
  );
}

async function approval() {
  const id = (await client.threads.create()).thread_id;
  const waiting = await client.runs.wait(id, "agent", { input: say("delete") });
  assert.equal(waiting.__interrupt__[0].value.action_requests[0].name, "files__delete");
  assert.equal((await client.threads.get(id)).status, "interrupted");
  const command = { resume: { decisions: [{ type: "approve" }] } };
  assert.equal(last(await client.runs.wait(id, "agent", { command })), "It is gone.");
}

async function states(id) {
  const history = await client.threads.getHistory(id, { limit: 4 });
  assert.equal(history.length, 4);
  assert.equal(last((await client.threads.getState(id)).values), "Hello there!");
  const { checkpoint } = history[1];
  const byId = await client.threads.getState(id, checkpoint.checkpoint_id);
  assert.deepEqual(await client.threads.getState(id, checkpoint), byId);
  const edit = { input: say("edited"), checkpoint: history[3].checkpoint };
  assert.equal(last(await client.runs.wait(id, "agent", edit)), "An edit.");
  const values = { messages: [{ role: "assistant", content: "by hand" }] };
  await client.threads.updateState(id, { values, asNode: "model" });
  const copy = await client.threads.copy(id);
  assert.equal(last((await client.threads.getState(copy.thread_id)).values), "by hand");
  await client.threads.delete(copy.thread_id);
  await assert.rejects(client.threads.get(copy.thread_id), /404/);
}

async function withoutThreads() {
  assert.equal(last(await client.runs.wait(null, "agent", { input: say("hello") })), "Hello there!");
  const parts = await collect(client.runs.stream(null, "agent", { input: say("hello") }));
  assert.equal(last(named(parts, "values").at(-1)), "Hello there!");
  const run = await client.runs.create(null, "agent", {
    input: say("hello"),
    streamResumable: true,
    onCompletion: "keep",
  });
  const joined = await collect(client.runs.joinStream(null, run.run_id, { lastEventId: "-1" }));
  assert.equal(last(named(joined, "values").at(-1)), "Hello there!");
  const batch = [{ assistantId: "agent", input: say("hello") }];
  assert.equal((await client.runs.createBatch(batch)).length, 1);
}

async function stopping() {
  const id = (await client.threads.create()).thread_id;
  const controller = new AbortController();
  const options = { streamMode: "messages-tuple", onDisconnect: "cancel" };
  const stream = client.runs.stream(id, "agent", {
    input: say("long"),
    ...options,
    signal: controller.signal,
  });
  await assert.rejects(async () => {
    for await (const part of stream)
      if (part.event === "messages" && part.data[0].content === "l") controller.abort();
    throw new Error("abort: ended without one");
  }, /abort/i);
  let status;
  do [{ status }] = await client.runs.list(id);
  while (["pending", "running"].includes(status));
  assert.equal(status, "interrupted");
}

await assistants();
const thread = await client.threads.create({ metadata: { from: "js" } });
const id = thread.thread_id;
assert.equal((await client.threads.get(id)).status, "idle");
await client.threads.update(id, { metadata: { title: "x" } });
await client.threads.patchState(id, { title: "y" });
assert.equal((await client.threads.get(id)).metadata.title, "y");
await client.threads.create({ threadId: "chosen", ifExists: "do_nothing" });
assert.equal(await client.threads.count({ metadata: { from: "js" } }), 1);
await runs(id);
await approval();
await states(id);
const query = { metadata: { from: "js" }, limit: 5, sortBy: "updated_at", sortOrder: "desc" };
assert.ok((await client.threads.search(query)).some((each) => each.thread_id === id));
await withoutThreads();
await stopping();
