/** What the server sends and takes, as its routes spell it. Pure types. */

export interface Me {
  role: "nobody" | "user" | "admin";
  needs_key: boolean;
  features: { agent: boolean; feedback: boolean; mcp: boolean };
  version: string;
}

export interface ServedModel {
  id: string;
  object: "model";
  /** Of an adapter, the model that it goes with; null for the model itself. */
  parent: string | null;
  aliases: string[];
  meta: {
    description: string;
    n_ctx?: number;
    n_params?: number;
    n_slots?: number;
    runtime?: string;
    fingerprint?: string;
    version?: number | string;
    rank?: number;
    size?: number;
  };
}

export interface McpTool {
  name: string;
  server: string;
  own_name: string;
  title: string | null;
  description: string;
  parameters: Record<string, unknown>;
  read_only: boolean;
  destructive: boolean;
  allowed: boolean;
}

export interface McpToolsOfServer {
  name: string;
  state: string;
  tools: McpTool[];
}

export interface McpServer extends McpToolsOfServer {
  type: string;
  where: string;
  origin: string;
  reason: string | null;
  since: number | string | null;
  software: string | null;
  protocol: string | null;
}

export interface NewMcpServer {
  name: string;
  url: string;
  type?: "http" | "streamable-http" | "sse";
  headers?: Record<string, string>;
  always_allow?: string[];
  timeout?: number;
}

export type Thumb = "up" | "down";
export type Verdict = "better" | "worse" | "tie";

export interface Rating {
  schema: number;
  kind: "rating";
  id: string;
  created_at: string;
  answer_id: string;
  thread_id: string | null;
  rater: string;
  source: "api" | "ui" | "terminal" | "mcp" | "langfuse" | "label-studio";
  thumb: Thumb | null;
  scale: number | null;
  comment: string | null;
  compared: { other_id: string; verdict: Verdict } | null;
  edited: { content: string; reasoning_content?: string | null } | null;
  external_id: string | null;
  retracted: boolean;
}

export interface NewRating {
  answer_id: string;
  thumb?: Thumb;
  scale?: number;
  comment?: string;
  compared?: { other_id: string; verdict: Verdict };
  edited?: { content: string; reasoning_content?: string };
  rater?: string;
  thread_id?: string;
  retracted?: boolean;
}

export interface LoggedAnswer {
  id: string;
  created_at: string;
  source: "api" | "agent" | "terminal" | "mcp";
  thread_id: string | null;
  parent_id: string | null;
  user: string | null;
  model: string;
  adapter: { name: string; version: string; scale: number } | null;
  messages: Record<string, unknown>[] | null;
  answer: { content: string; reasoning_content: string | null; tool_calls: unknown[] } | null;
  finish_reason: string;
  usage: { prompt: number; cached: number; completion: number; reasoning: number };
  ratings: Rating[];
}

export interface FeedbackQuery {
  thread_id?: string;
  model?: string;
  adapter?: string;
  rater?: string;
  thumb?: Thumb;
  min_scale?: number;
  max_scale?: number;
  since?: string;
  until?: string;
  text?: string;
  limit?: number;
  cursor?: string;
}

export interface FeedbackStats {
  n_answers: number;
  n_rated: number;
  n_ratings: number;
  n_up: number;
  n_down: number;
  scale: Record<string, number>;
  n_compared: number;
  days: { day: string; n_answers: number; n_up: number; n_down: number; n_compared: number }[];
  agreement: { day: string; n_shared: number; n_agreed: number; agreement: number | null }[];
  adapters: {
    model: string;
    adapter: string | null;
    version: string | null;
    n_answers: number;
    n_up: number;
    n_down: number;
    mean_scale: number | null;
    wins: number;
    losses: number;
    ties: number;
    win_rate: number | null;
  }[];
  raters: { rater: string; n_ratings: number }[];
}
