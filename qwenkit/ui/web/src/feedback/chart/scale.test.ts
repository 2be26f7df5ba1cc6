import { expect, test } from "vitest";

import { calendar } from "./calendar";
import { countTicks, linear, thinned } from "./scale";

test("ticks are round, whole, and reach the largest count", () => {
  expect(countTicks(12)).toEqual([0, 5, 10, 15]);
  expect(countTicks(1)).toEqual([0, 1]);
  expect(countTicks(0)).toEqual([0, 1]);
  expect(countTicks(7300).at(-1)).toBeGreaterThanOrEqual(7300);
});

test("a scale maps both ends, also upside down", () => {
  const y = linear([0, 10], [200, 0]);
  expect([y(0), y(5), y(10)]).toEqual([200, 100, 0]);
});

test("days without ratings have their place between the others", () => {
  expect(calendar(["2026-03-01", "2026-02-27"])).toEqual(["2026-02-27", "2026-02-28", "2026-03-01"]);
  expect(calendar([])).toEqual([]);
});

test("labels that do not all fit keep the newest", () => {
  expect(thinned([1, 2, 3, 4, 5], 2)).toEqual([2, 5]);
});
