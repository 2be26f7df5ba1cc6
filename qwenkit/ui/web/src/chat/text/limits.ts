/** Which texts are too much for the Markdown parser: it takes time that grows with the square of some
 * of them, and runs out of stack on others. Pure.
 */

const MAX_LENGTH = 200_000;
/** In one block, as the parser looks for pairs among all of them. */
const MAX_MARKS = 3000;
const DEEP_QUOTE = /^(?:[ \t]*>){100}/m;

/** Whether a browser can show it as Markdown without standing still. */
export function canBeMarkdown(text: string): boolean {
  if (text.length > MAX_LENGTH || DEEP_QUOTE.test(text)) return false;
  return text.split(/\n[ \t]*\n/).every((block) => marksIn(block) <= MAX_MARKS);
}

const marksIn = (block: string): number => block.match(/[*_~]+/g)?.length ?? 0;
