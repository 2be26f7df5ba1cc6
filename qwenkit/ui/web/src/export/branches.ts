/** What a thread's history holds: every answer with its prompt, and every conversation to its end.
 *
 * A thread is a tree of states: an edit or a regeneration begins a branch.
 */

import type { ThreadState } from "@langchain/langgraph-sdk";

import type { ChatState, StoredMessage } from "../api/langgraph";

export type State = ThreadState<ChatState>;

export interface Conversation {
  messages: StoredMessage[];
  systemPrompt: string;
}

export interface Answer {
  id: string;
  message: StoredMessage;
  prompt: StoredMessage[];
  systemPrompt: string;
  /** Whether the run asked for it; null where it left that to the server. */
  thinking: boolean | null;
  /** Equal for two answers only if the model read the same prompt for both. */
  promptKey: string;
}

function messagesOf(state: State): StoredMessage[] {
  return state.values?.messages ?? [];
}

function idsOf(messages: readonly StoredMessage[]): string {
  return JSON.stringify(messages.map((each) => each.id ?? each.content));
}

/** What a state's run chose: its plain values stand beside LangGraph's own. */
function chosenOf(state: State): Record<string, unknown> {
  return { ...state.metadata };
}

/** The prompt that was given to the model in a state's run; empty where the server's own was. */
function systemPromptOf(state: State): string {
  const prompt = chosenOf(state)["system_prompt"];
  return typeof prompt === "string" ? prompt : "";
}

function oldestFirst(states: readonly State[]): State[] {
  return [...states].sort((a, b) => (a.created_at ?? "").localeCompare(b.created_at ?? ""));
}

/** Every answer of a thread, in the order in which they were written. */
export function answersOf(states: readonly State[]): Answer[] {
  const found = new Map<string, Answer>();
  for (const state of oldestFirst(states)) {
    const messages = messagesOf(state);
    const message = messages.at(-1);
    if (message?.type !== "ai" || !message.id || found.has(message.id)) continue;
    const prompt = messages.slice(0, -1);
    const systemPrompt = systemPromptOf(state);
    const asked = chosenOf(state)["thinking"];
    const thinking = typeof asked === "boolean" ? asked : null;
    const promptKey = JSON.stringify([idsOf(prompt), systemPrompt, thinking]);
    const answer = { id: message.id, message, prompt, systemPrompt, thinking, promptKey };
    found.set(message.id, answer);
  }
  return [...found.values()];
}

/** Conversations to their ends, newest first; those that another one only goes on with are left out. */
export function conversationsOf(states: readonly State[]): Conversation[] {
  const parents = new Set(states.map((each) => each.parent_checkpoint?.checkpoint_id));
  const seen = new Set<string>();
  const found: Conversation[] = [];
  for (const state of oldestFirst(states).reverse()) {
    const messages = messagesOf(state);
    const key = idsOf(messages);
    const isLeaf = !parents.has(state.checkpoint?.checkpoint_id);
    if (!isLeaf || messages.length === 0 || seen.has(key)) continue;
    seen.add(key);
    found.push({ messages, systemPrompt: systemPromptOf(state) });
  }
  return found;
}
