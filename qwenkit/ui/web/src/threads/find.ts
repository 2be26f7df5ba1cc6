/** Finds threads by their title and by what is said in them. Pure. */

import type { ThreadSummary } from "./summaries";

export interface Hit {
  summary: ThreadSummary;
  /** Where the text says it; null where the title alone does. */
  excerpt: Excerpt | null;
}

export interface Excerpt {
  before: string;
  match: string;
  after: string;
}

/** A thread with its text, made ready for many searches. */
export interface Searchable {
  summary: ThreadSummary;
  text: string;
  foldedText: string;
  foldedTitle: string;
}

const AROUND = 32;

export function searchable(summary: ThreadSummary, text: string): Searchable {
  return { summary, text, foldedText: folded(text), foldedTitle: folded(summary.title) };
}

/** Those whose title or text has the words just so, in any case. */
export function findThreads(threads: readonly Searchable[], query: string): Hit[] {
  const wanted = folded(query.trim());
  return threads.flatMap(({ summary, text, foldedText, foldedTitle }): Hit[] => {
    if (foldedTitle.includes(wanted)) return [{ summary, excerpt: null }];
    const start = foldedText.indexOf(wanted);
    return start < 0 ? [] : [{ summary, excerpt: excerptOf(text, start, wanted.length) }];
  });
}

/** Lower case letter by letter, so that places in it are places in the text. */
function folded(text: string): string {
  return Array.from(text, (letter) => {
    const lower = letter.toLowerCase();
    return lower.length === letter.length ? lower : letter;
  }).join("");
}

function excerptOf(text: string, start: number, length: number): Excerpt {
  const end = start + length;
  const from = Math.max(0, start - AROUND);
  const to = Math.min(text.length, end + 2 * AROUND);
  return {
    before: from > 0 ? `…${text.slice(from, start).trimStart()}` : text.slice(from, start),
    match: text.slice(start, end),
    after: to < text.length ? `${text.slice(end, to)}…` : text.slice(end, to),
  };
}
