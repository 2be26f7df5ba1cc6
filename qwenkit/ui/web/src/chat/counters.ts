/** How many tokens an answer took and how fast they came. Pure. */

import type { ChatMessage } from "./chunks";

export interface Counters {
  tokens: number;
  /** Of `tokens`, those of the thinking. */
  thinking: number;
  perSecond: number | null;
  /** Seconds until the first token. */
  waited: number | null;
  /** Tokens of context that the conversation takes; null while it is not known. */
  context: number | null;
  /** Counted here from pieces, as the server has not told yet. */
  estimated: boolean;
}

/** Of an answer's messages; null where nothing was written yet. */
export function countersOf(messages: readonly ChatMessage[]): Counters | null {
  const written = messages.filter((message) => message.type === "ai");
  const counts = written.map(countMessage);
  const first = counts[0];
  if (!first) return null;
  const seconds = sum(counts.map((count) => count.seconds));
  const tokens = sum(counts.map((count) => count.tokens));
  return {
    tokens,
    thinking: sum(counts.map((count) => count.thinking)),
    perSecond: seconds > 0 && tokens > 1 ? tokens / seconds : null,
    waited: first.waited,
    context: counts.at(-1)?.context ?? null,
    estimated: counts.some((count) => count.estimated),
  };
}

function countMessage({ usage_metadata: usage, response_metadata, live }: ChatMessage) {
  const timings = response_metadata?.timings;
  if (!usage) {
    const seconds = live ? (live.latestAt - live.startedAt) / 1000 : 0;
    const tokens = live?.n_chunks ?? 0;
    return { tokens, thinking: 0, seconds, waited: null, context: null, estimated: true };
  }
  return {
    tokens: usage.output_tokens,
    thinking: usage.output_token_details?.reasoning ?? 0,
    seconds: timings?.decode_s ?? 0,
    waited: timings ? (timings.queue_s ?? 0) + (timings.prefill_s ?? 0) : null,
    context: usage.total_tokens,
    estimated: false,
  };
}

/** Seconds that a message's thinking took; null while it goes on, or where nobody has measured it.
 */
export function thinkingSeconds(message: ChatMessage): number | null {
  const told = message.response_metadata?.timings?.thinking_s;
  if (told !== undefined) return told;
  const { live } = message;
  return live?.thoughtUntil == null ? null : (live.thoughtUntil - live.startedAt) / 1000;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 0.1) return "< 0.1 s";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
