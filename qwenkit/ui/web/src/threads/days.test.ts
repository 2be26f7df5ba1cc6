import { expect, test } from "vitest";

import { dayLabel, groupByDay } from "./days";

const NOW = new Date(2026, 10, 25, 0, 30);
const at = (...parts: [number, number, number, number?]) => new Date(...parts);

test("a moment just before midnight is yesterday, half an hour after it", () => {
  expect(dayLabel(at(2026, 10, 24, 23), NOW)).toBe("Yesterday");
});

test("days of the last week have their names, older ones share a heading", () => {
  expect(dayLabel(at(2026, 10, 19), NOW)).toBe("Thursday");
  expect(dayLabel(at(2026, 10, 18), NOW)).toBe("Last 30 days");
  expect(dayLabel(at(2026, 8, 1), NOW)).toBe("September 2026");
});

test("a clock that runs ahead still says today", () => {
  expect(dayLabel(at(2026, 10, 26, 5), NOW)).toBe("Today");
});

test("neighbours of one day stand under one heading, in their order", () => {
  const moments = [at(2026, 10, 25), at(2026, 10, 24, 9), at(2026, 10, 24, 8)];
  const groups = groupByDay(moments, (each) => each, NOW);
  expect(groups.map((group) => [group.label, group.items.length])).toEqual([
    ["Today", 1],
    ["Yesterday", 2],
  ]);
});
