/** What the model thought before it answered: open while it thinks, then folded, with how long it
 * took.
 */

import { type ReasoningMessagePartProps, useAuiState } from "@assistant-ui/react";
import { useEffect, useId, useState } from "react";

import { Icon } from "../ui";
import { useInnerMessages } from "./context";
import { formatSeconds, thinkingSeconds } from "./counters";

export function Thinking({ text, parentId }: ReasoningMessagePartProps) {
  const id = useId();
  const message = useInnerMessages().find((each) => each.id === parentId);
  const running = useAuiState((state) => state.thread.isRunning && state.message.isLast);
  const seconds = message ? thinkingSeconds(message) : null;
  const thinks = running && seconds === null;
  const [open, setOpen] = useState<boolean | null>(null);
  const shown = open ?? thinks;
  return (
    <section className="thinking" data-running={thinks || undefined}>
      <button
        type="button"
        className="thinking-title"
        aria-expanded={shown}
        aria-controls={id}
        onClick={() => setOpen(!shown)}
      >
        <Icon name="thought" size={16} />
        <span>{thinks ? <ThinkingFor /> : titleOf(seconds)}</span>
        <Icon name={shown ? "up" : "down"} size={14} />
      </button>
      <div id={id} hidden={!shown} className="thinking-text">
        {text}
      </div>
    </section>
  );
}

const titleOf = (seconds: number | null): string =>
  seconds === null ? "Thought" : `Thought for ${formatSeconds(seconds)}`;

function ThinkingFor() {
  const [began] = useState(() => performance.now());
  const [now, setNow] = useState(began);
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.round((now - began) / 1000);
  return <>Thinking{seconds > 0 ? ` for ${formatSeconds(seconds).replace(".0", "")}` : "…"}</>;
}
