/** Numbers to places on a chart, and the ticks between them. Pure. */

export type Scale = (value: number) => number;

/** From `[low, high]` to `[start, end]`, in a straight line. */
export function linear([low, high]: [number, number], [start, end]: [number, number]): Scale {
  const span = high - low || 1;
  return (value) => start + ((value - low) / span) * (end - start);
}

const STEPS = [1, 2, 5, 10];

/** Round numbers from 0 up to the first that is `most` or more; whole ones, as counts are. */
export function countTicks(most: number, about = 4): number[] {
  const rough = Math.max(most, 1) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = STEPS.find((step) => step * power >= rough) ?? 10;
  const step = Math.max(1, nice * power);
  const n = Math.ceil(Math.max(most, 1) / step);
  return Array.from({ length: n + 1 }, (_, index) => index * step);
}

/** At most `n` of the items, spread evenly, the last one included. */
export function thinned<T>(items: readonly T[], n: number): T[] {
  const every = Math.max(1, Math.ceil(items.length / Math.max(1, n)));
  return items.filter((_, index) => (items.length - 1 - index) % every === 0);
}
