/** Days as the server names them (`2026-11-25`, UTC). Pure. */

const DAY_MS = 24 * 60 * 60 * 1000;

const toMs = (day: string): number => Date.parse(`${day}T00:00:00Z`);
const toDay = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** Every day from the first to the last, those on which nothing happened included. */
export function calendar(days: readonly string[]): string[] {
  const sorted = [...days].sort();
  const [first, last] = [sorted[0], sorted.at(-1)];
  if (first === undefined || last === undefined) return [];
  const n = Math.round((toMs(last) - toMs(first)) / DAY_MS) + 1;
  return Array.from({ length: n }, (_, index) => toDay(toMs(first) + index * DAY_MS));
}

/** The day `n` days before `now`. */
export function daysBefore(n: number, now: Date): string {
  return toDay(now.getTime() - n * DAY_MS);
}

/** `25 Nov`. */
export function shortDay(day: string): string {
  return new Date(toMs(day)).toLocaleDateString("en-GB", {
    day: "numeric",
    month: "short",
    timeZone: "UTC",
  });
}
