/** A conversation's title where nobody gave it one. Pure. */

export const UNTITLED = "New chat";
const MAX_TITLE = 80;

/** A line for a list: the first one that says something, cut at a word where it is long. */
export function titleOf(text: string): string {
  const line = text.trim().split(/\s*\n/)[0] ?? "";
  if (line.length <= MAX_TITLE) return line || UNTITLED;
  const cut = line.slice(0, MAX_TITLE);
  return `${cut.slice(0, cut.lastIndexOf(" ") > 40 ? cut.lastIndexOf(" ") : MAX_TITLE)}…`;
}
