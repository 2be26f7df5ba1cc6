import { expect, test } from "vitest";

import { displayMath, hasMath } from "./math";

test.each(["$x$", "the $$x^2$$ of it", "\\(a+b\\)", "\\[\na\n\\]"])("%s is mathematics", (text) => {
  expect(hasMath(text)).toBe(true);
});

test.each(["It costs $5 and then $10.", "no formula", "$ 5 and $ 6"])("%s is none", (text) => {
  expect(hasMath(text)).toBe(false);
});

test("a formula on a line of its own becomes a display, one in a sentence stays in it", () => {
  expect(displayMath("a\n$$x$$\nb")).toBe("a\n$$\nx\n$$\nb");
  expect(displayMath("so $$x$$ is")).toBe("so $$x$$ is");
});
