import { expect, test } from "vitest";

import { DIRECT, presetOf, withValue } from "./presets";

test("a preset is recognised, and one changed value makes it one's own", () => {
  expect(presetOf({})).toBe("automatic");
  expect(presetOf({ ...DIRECT })).toBe("direct");
  expect(presetOf(withValue(DIRECT, "top_p", 0.5))).toBe("custom");
});

test("a value that is taken away leaves no trace", () => {
  expect(withValue({ seed: 1, top_k: 2 }, "seed", null)).toEqual({ top_k: 2 });
});
