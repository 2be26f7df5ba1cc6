/** A conversation to read: Markdown, with thinking and tools folded away. */

import type { StoredMessage } from "../api/langgraph";
import { textOf } from "../api/text";
import { reasoningOf } from "./conversation";

/** A fence that no line of the text can end. */
function fenced(text: string, language: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/^`{3,}/gm)].map((found) => found[0].length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}

function folded(summary: string, text: string): string {
  return `<details><summary>${summary}</summary>\n\n${text}\n\n</details>`;
}

function assistantText(message: StoredMessage, thinking: boolean): string {
  const reasoning = reasoningOf(message);
  const calls = (message.tool_calls ?? []).map((call) =>
    [`Calls \`${call.name}\``, fenced(JSON.stringify(call.args, null, 2), "json")].join("\n\n"),
  );
  const parts = [
    thinking && reasoning ? folded("Thinking", reasoning) : "",
    textOf(message),
    ...calls,
  ];
  return parts.filter(Boolean).join("\n\n");
}

function section(message: StoredMessage, thinking: boolean): string {
  switch (message.type) {
    case "human":
      return `## User\n\n${textOf(message)}`;
    case "system":
      return `## System\n\n${textOf(message)}`;
    case "tool":
      return `## Tool ${message.name ?? ""}\n\n${fenced(textOf(message), "")}`;
    case "ai":
      return `## Assistant\n\n${assistantText(message, thinking)}`;
  }
}

export function markdownOf(
  title: string,
  messages: readonly StoredMessage[],
  thinking: boolean,
): string {
  const sections = messages.map((each) => section(each, thinking));
  return `${[`# ${title}`, ...sections].join("\n\n")}\n`;
}
