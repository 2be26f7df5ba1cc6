import { expect, test } from "vitest";

import { checkpointOf, MessageTree, type Snapshot } from "./history";

/** A snapshot of messages by their ids, newest checkpoint last. */
function snapshot(checkpoint: string, parent: string | null, ...ids: string[]): Snapshot {
  const place = (id: string) => ({ checkpoint_id: id, checkpoint_ns: "", thread_id: "t" });
  return {
    values: { messages: ids.map((id) => ({ id, type: "human", content: id })) },
    checkpoint: place(checkpoint),
    parent_checkpoint: parent ? place(parent) : null,
    next: [],
    tasks: [],
  } as unknown as Snapshot;
}

const TURN = [snapshot("0", null), snapshot("1", "0", "q"), snapshot("2", "1", "q", "a")];
const conversation = (...ids: string[]) =>
  ids.map((id) => ({ id, type: "human" as const, content: id }));
const treeOf = (...oldestFirst: Snapshot[]) => new MessageTree([...oldestFirst].reverse());

test("a conversation without branches has no versions", () => {
  const tree = treeOf(...TURN);
  expect(tree.versions(conversation("q", "a"), 0)).toBeNull();
  expect(tree.versions(conversation("q", "a"), 1)).toBeNull();
});

test("an answer that is regenerated is the second version of it, and the question has one", () => {
  const tree = treeOf(...TURN, snapshot("3", "1", "q"), snapshot("4", "3", "q", "b"));
  const versions = tree.versions(conversation("q", "b"), 1);
  expect(versions?.shown).toBe(1);
  expect(versions?.snapshots.map(checkpointOf)).toEqual(["2", "4"]);
  expect(tree.versions(conversation("q", "b"), 0)).toBeNull();
});

test("an edited question is a version of it, and each version leads to its newest answer", () => {
  const tree = treeOf(
    ...TURN,
    snapshot("3", "0"),
    snapshot("4", "3", "r"),
    snapshot("5", "4", "r", "b"),
  );
  const versions = tree.versions(conversation("q", "a"), 0);
  expect(versions?.shown).toBe(0);
  expect(versions?.snapshots.map(checkpointOf)).toEqual(["2", "5"]);
});

test("a message is written anew from the checkpoint before the oldest one that has it", () => {
  const tree = treeOf(...TURN, snapshot("3", "2", "q", "a"), snapshot("4", "3", "q", "a", "q2"));
  expect(tree.before(conversation("q", "a", "q2"), 0)).toBe("0");
  expect(tree.before(conversation("q", "a", "q2"), 1)).toBe("1");
  expect(tree.before(conversation("q", "a", "q2"), 2)).toBe("3");
});

test("answers of the same id to different questions are no versions of one another", () => {
  const tree = treeOf(snapshot("1", null, "q", "a"), snapshot("2", null, "r", "a"));
  expect(tree.versions(conversation("q", "a"), 1)).toBeNull();
  expect(tree.versions(conversation("r", "a"), 0)?.shown).toBe(1);
});

test("every branch is told with all of its messages", () => {
  const tree = treeOf(...TURN, snapshot("3", "1", "q", "b"), snapshot("4", "3", "q", "b", "q2"));
  const ids = tree.branches().map((branch) => branch.map((message) => message.id));
  expect(ids).toEqual([
    ["q", "a"],
    ["q", "b", "q2"],
  ]);
});
