/** What a run is asked to do: the settings as the agent takes them. Pure. */

import type { Settings } from "../state/settings";

/** How a run begins. */
export interface RunPlan {
  /** A run that goes on already; everything else is its own. */
  join?: string;
  checkpointId?: string | null;
  resume?: unknown;
  /** Another model than the chosen one, for comparisons. */
  model?: string | null;
}

/** The run's `configurable`, in the agent's words. */
export function toConfigurable(settings: Settings, model?: string | null): Record<string, unknown> {
  const chosen = {
    model: model === undefined ? settings.model : model,
    thinking: settings.thinking,
    thinking_budget: settings.thinking ? settings.thinkingBudget : null,
    max_tokens: settings.maxTokens,
    system_prompt: settings.systemPrompt.trim() || null,
    tools: settings.tools,
    allowed_tools: settings.allowedTools,
    store: settings.store ? null : false,
    ...settings.sampling,
  };
  return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value != null));
}
