/** Tokens, speed and the wait for the first token of an answer. */

import type { ChatMessage } from "./chunks";
import { countersOf, formatSeconds } from "./counters";

export function CounterLine({ messages }: { messages: ChatMessage[] }) {
  const counters = countersOf(messages);
  if (!counters?.tokens) return null;
  const { tokens, thinking, perSecond, waited, estimated } = counters;
  const about = estimated ? "≈ " : "";
  const more = [
    thinking > 0 && `${thinking} of them thinking`,
    waited !== null && `first token after ${formatSeconds(waited)}`,
    messages.findLast((message) => message.response_metadata?.model_name)?.response_metadata
      ?.model_name,
  ];
  return (
    <span className="counters" title={more.filter(Boolean).join(" · ")}>
      {about}
      {tokens.toLocaleString("en")} {tokens === 1 ? "token" : "tokens"}
      {perSecond !== null && ` · ${about}${formatSpeed(perSecond)} tokens/s`}
    </span>
  );
}

const formatSpeed = (speed: number): string =>
  speed < 10 ? speed.toFixed(1) : Math.round(speed).toLocaleString("en");
