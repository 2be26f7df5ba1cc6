/** The agent behind the chat, over LangGraph's own client. */

import { Client, type Thread } from "@langchain/langgraph-sdk";

import { request } from "./http";

export { textOf } from "./text";

export const ASSISTANT = "agent";

/** A message as it stands in a thread's state. */
export interface StoredMessage {
  id?: string;
  type: "human" | "ai" | "tool" | "system";
  content: string | ContentBlock[];
  name?: string | null;
  additional_kwargs?: {
    reasoning_content?: string;
    edited_tool_calls?: StoredToolCall[];
    /** What a person decided in place of a tool's run. */
    decision?: "reject" | "respond";
    [name: string]: unknown;
  };
  response_metadata?: ResponseMetadata;
  tool_calls?: StoredToolCall[];
  usage_metadata?: UsageMetadata | null;
  tool_call_id?: string;
  status?: "success" | "error";
}

export interface ContentBlock {
  type: string;
  text?: string;
  [name: string]: unknown;
}

export interface StoredToolCall {
  id: string;
  name: string;
  args: Record<string, unknown>;
}

export interface UsageMetadata {
  input_tokens: number;
  output_tokens: number;
  total_tokens: number;
  input_token_details?: { cache_read?: number };
  output_token_details?: { reasoning?: number };
}

export interface ResponseMetadata {
  finish_reason?: string;
  model_name?: string;
  timings?: { queue_s?: number; prefill_s?: number; decode_s?: number; thinking_s?: number };
  [name: string]: unknown;
}

export interface ChatState {
  messages?: StoredMessage[];
  [name: string]: unknown;
}

export type ChatThread = Thread<ChatState>;

/** Raises: ApiError, as all requests to the server. */
export const client = new Client<ChatState>({
  apiUrl: `${location.origin}/agent`,
  apiKey: null,
  callerOptions: { fetch: request, maxRetries: 0, maxConcurrency: 16 },
});
