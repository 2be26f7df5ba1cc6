/** How much of the model's context the conversation takes. */

import { models } from "../state/models";
import { useStore } from "../state/store";
import { useChat } from "./context";
import { countersOf } from "./counters";

export function ContextMeter() {
  const { messages } = useChat().conversation;
  const size = useStore(models, (served) => served[0]?.meta.n_ctx ?? null);
  const told = messages.findLast((message) => message.usage_metadata);
  const taken = told ? (countersOf([told])?.context ?? null) : null;
  if (taken === null || size === null) return null;
  const share = Math.min(1, taken / size);
  return (
    <span
      className="context-meter"
      data-full={share > 0.9 || undefined}
      role="img"
      aria-label={`${taken} of ${size} tokens of context are used`}
      title={`${taken.toLocaleString("en")} of ${size.toLocaleString("en")} tokens of context`}
    >
      {Math.round(share * 100)}%
    </span>
  );
}
