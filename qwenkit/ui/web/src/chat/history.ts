/** The tree of messages in a thread's history: which branches there are, and where each can be gone on from. Pure.

A checkpoint holds all messages up to it. Two checkpoints that share their first n messages and differ in
the next one are branches of message n.
*/

import type { ThreadState } from "@langchain/langgraph-sdk";

import type { ChatState, StoredMessage } from "../api/langgraph";

export type Snapshot = ThreadState<ChatState>;

interface Node {
  /** The oldest snapshot that has the message. */
  first: Snapshot;
  /** The newest snapshot of the branch. */
  newest: Snapshot;
  next: Map<string, Node>;
}

/** Branches of one message: which of them is shown, and the snapshots that the others lead to. */
export interface Versions {
  /** Counts from 0. */
  shown: number;
  snapshots: Snapshot[];
}

export class MessageTree {
  private readonly roots = new Map<string, Node>();

  /** @param newestFirst As the server tells a history. */
  constructor(private readonly newestFirst: readonly Snapshot[]) {
    for (const snapshot of [...newestFirst].reverse()) this.add(snapshot);
  }

  get newest(): Snapshot | null {
    return this.newestFirst[0] ?? null;
  }

  snapshot(checkpointId: string): Snapshot | null {
    return this.newestFirst.find((each) => checkpointOf(each) === checkpointId) ?? null;
  }

  /** The branches of the message at `index` of a conversation; null where it is the only one. */
  versions(messages: readonly StoredMessage[], index: number): Versions | null {
    const level = this.level(messages, index);
    const shown = [...level.keys()].indexOf(messages[index]?.id ?? "");
    if (shown < 0 || level.size < 2) return null;
    return { shown, snapshots: [...level.values()].map((node) => node.newest) };
  }

  /** The newest snapshot of the branch that holds the first `length` messages of a conversation. */
  branchOf(messages: readonly StoredMessage[], length: number): Snapshot | null {
    const id = messages[length - 1]?.id ?? "";
    return this.level(messages, length - 1).get(id)?.newest ?? null;
  }

  /** The checkpoint to go on from so that the message at `index` is written anew; null is the
   * thread's start.
   */
  before(messages: readonly StoredMessage[], index: number): string | null {
    const node = this.level(messages, index).get(messages[index]?.id ?? "");
    return node?.first.parent_checkpoint?.checkpoint_id ?? null;
  }

  /** The messages of every branch, oldest branch first. */
  branches(): StoredMessage[][] {
    const leaves = [...this.roots.values()].flatMap(leavesOf);
    return leaves.map(messagesOf);
  }

  private level(messages: readonly StoredMessage[], index: number): Map<string, Node> {
    let level = this.roots;
    for (const message of messages.slice(0, index)) {
      level = level.get(message.id ?? "")?.next ?? new Map();
    }
    return level;
  }

  private add(snapshot: Snapshot): void {
    let level = this.roots;
    for (const { id = "" } of messagesOf(snapshot)) {
      const node = level.get(id) ?? { first: snapshot, newest: snapshot, next: new Map() };
      node.newest = snapshot;
      level.set(id, node);
      level = node.next;
    }
  }
}

export const messagesOf = (snapshot: Snapshot): StoredMessage[] => snapshot.values?.messages ?? [];

export const checkpointOf = (snapshot: Snapshot): string | null =>
  snapshot.checkpoint?.checkpoint_id ?? null;

/** What a snapshot waits for a person to answer. */
export function questionOf(snapshot: Snapshot | null): { value?: unknown } | undefined {
  return snapshot?.tasks?.flatMap((task) => task.interrupts ?? [])[0];
}

function leavesOf(node: Node): Snapshot[] {
  return node.next.size ? [...node.next.values()].flatMap(leavesOf) : [node.newest];
}
