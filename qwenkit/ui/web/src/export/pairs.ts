/** Makes preference pairs of what people said about the answers to one prompt. */

import type { Rating } from "../api/types";
import type { Answer } from "./branches";
import { type ChatMessage, chatMessage, chatMessages } from "./conversation";
import { countingRatings } from "./ratings";
import { preferencesOf } from "./votes";

export interface Pair {
  prompt: ChatMessage[];
  chosen: [ChatMessage];
  rejected: [ChatMessage];
  /** Whether the prompt asks for thinking; absent where it is not known, or taken out. */
  chat_template_kwargs?: { enable_thinking: boolean };
}

/** A conversation's pairs: from judgements on two answers to one prompt, and from corrections. */
export function pairsOf(
  answers: readonly Answer[],
  ratings: readonly Rating[],
  thinking: boolean,
): Pair[] {
  const counting = countingRatings(ratings);
  const byId = new Map(answers.map((answer) => [answer.id, answer]));
  const preferred = groupBy(answers, (answer) => answer.promptKey)
    .flatMap((group) => preferencesOf(group, counting))
    .flatMap(({ winner, loser }) => {
      const [better, worse] = [byId.get(winner), byId.get(loser)];
      return better && worse ? [pairOf(worse, chatMessage(better.message, thinking), thinking)] : [];
    });
  const corrected = counting.flatMap((rating) => {
    const answer = byId.get(rating.answer_id);
    return answer && rating.edited
      ? [pairOf(answer, corrections(answer, rating.edited, thinking), thinking)]
      : [];
  });
  return [...preferred, ...corrected].filter(differ);
}

function pairOf(rejected: Answer, chosen: ChatMessage, thinking: boolean): Pair {
  const asked = thinking && rejected.thinking !== null;
  return {
    prompt: chatMessages(rejected.prompt, rejected.systemPrompt, thinking),
    chosen: [chosen],
    rejected: [chatMessage(rejected.message, thinking)],
    ...(asked ? { chat_template_kwargs: { enable_thinking: rejected.thinking === true } } : {}),
  };
}

/** A person's wording; the thinking stays as it was where they say nothing of it. */
function corrections(
  answer: Answer,
  edited: NonNullable<Rating["edited"]>,
  thinking: boolean,
): ChatMessage {
  const { tool_calls: _, reasoning_content: before, ...rest } = chatMessage(answer.message, thinking);
  const reasoning = thinking ? (edited.reasoning_content ?? before) : undefined;
  return { ...rest, content: edited.content, ...(reasoning ? { reasoning_content: reasoning } : {}) };
}

function differ(pair: Pair): boolean {
  return JSON.stringify(pair.chosen) !== JSON.stringify(pair.rejected);
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return [...groups.values()];
}
