/** Cuts a growing text into whole sentences. Pure. */

/** What comes after the first `read` characters, up to the last sentence's end; all of it once the
 * text is whole.
 */
export function nextToRead(text: string, read: number, whole: boolean): string {
  const rest = text.slice(read);
  if (whole) return rest;
  const ends = [...rest.matchAll(/[.!?:](?=\s)|\n/g)];
  const last = ends.at(-1);
  return last ? rest.slice(0, last.index + 1) : "";
}
