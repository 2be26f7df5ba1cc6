/** What the person chose; kept in the browser and sent with every run. */

import { createKeptStore } from "./store";

export type Theme = "system" | "light" | "dark";

/** Sampling parameters by the server's names; an absent one is the model's own choice. */
export interface Sampling {
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  repeat_penalty?: number;
  seed?: number;
}

export interface Settings {
  /** Name of the model or of an adapter; null is the served model. */
  model: string | null;
  thinking: boolean;
  /** Most tokens of thinking; null is no limit. */
  thinkingBudget: number | null;
  sampling: Sampling;
  /** Most tokens of a model call; null is the server's limit. */
  maxTokens: number | null;
  /** Empty is the server's own. */
  systemPrompt: string;
  /** Names of the tools that are offered; null is all. */
  tools: string[] | null;
  /** Names of the tools that run without asking. */
  allowedTools: string[];
  theme: Theme;
  /** Who ratings are from; empty is anonymous. */
  rater: string;
  /** Whether answers may be kept in the server's log. */
  store: boolean;
}

export const DEFAULTS: Settings = {
  model: null,
  thinking: true,
  thinkingBudget: null,
  sampling: {},
  maxTokens: null,
  systemPrompt: "",
  tools: null,
  allowedTools: [],
  theme: "system",
  rater: "",
  store: true,
};

export const settings = createKeptStore<Settings>("qwenkit.settings", (found) => ({
  ...DEFAULTS,
  ...(found as Partial<Settings> | undefined),
}));

export function changeSettings(changes: Partial<Settings>): void {
  settings.set((before) => ({ ...before, ...changes }));
}
