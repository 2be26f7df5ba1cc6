import { expect, test } from "vitest";

import { choiceOf, type OfferedTool, type ToolRules, withChoice } from "./toolChoices";

const ASK: OfferedTool = { name: "ask", title: "ask", description: "", allowed: false };
const CLOCK: OfferedTool = { name: "clock", title: "clock", description: "", allowed: true };
const NAMES = ["ask", "clock"];
const FRESH: ToolRules = { tools: null, allowedTools: [] };

test("a tool asks first until somebody lets it run", () => {
  expect(choiceOf(ASK, FRESH)).toBe("ask");
  expect(choiceOf(ASK, withChoice(FRESH, ASK, "run", NAMES))).toBe("run");
});

test("leaving one tool out names the others, and taking it back offers all again", () => {
  const without = withChoice(FRESH, CLOCK, "off", NAMES);
  expect(without.tools).toEqual(["ask"]);
  expect(withChoice(without, CLOCK, "run", NAMES)).toEqual(FRESH);
});

test("a tool that is left out may not run freely any more", () => {
  const free = withChoice(FRESH, ASK, "run", NAMES);
  expect(withChoice(free, ASK, "off", NAMES)).toEqual({ tools: ["clock"], allowedTools: [] });
});
