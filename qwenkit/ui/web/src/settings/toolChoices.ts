/** Which tools are offered, and which of them run without asking. Pure. */

import type { McpToolsOfServer } from "../api/types";
import type { Settings } from "../state/settings";

export type ToolChoice = "off" | "ask" | "run";
export type ToolRules = Pick<Settings, "tools" | "allowedTools">;

export interface OfferedTool {
  name: string;
  title: string;
  description: string;
  /** The server's configuration lets it run without asking. */
  allowed: boolean;
}

export interface ToolGroup {
  name: string;
  tools: OfferedTool[];
}

/** The tools that every agent of qwenkit has; they change nothing and never ask. */
const BUILT_IN: ToolGroup = {
  name: "Built in",
  tools: [
    {
      name: "clock",
      title: "clock",
      description: "Tells the current date, weekday and time.",
      allowed: true,
    },
    {
      name: "calculator",
      title: "calculator",
      description: "Works out arithmetic.",
      allowed: true,
    },
  ],
};

export function toolGroups(servers: readonly McpToolsOfServer[]): ToolGroup[] {
  const groups = servers.map((server) => ({
    name: server.name,
    tools: server.tools.map((tool) => ({ ...tool, title: tool.title || tool.name })),
  }));
  return [BUILT_IN, ...groups.filter((group) => group.tools.length > 0)];
}

export function choiceOf(tool: OfferedTool, rules: ToolRules): ToolChoice {
  if (rules.tools && !rules.tools.includes(tool.name)) return "off";
  return tool.allowed || rules.allowedTools.includes(tool.name) ? "run" : "ask";
}

/** The rules with another choice for one tool; `all` names every tool that there is. */
export function withChoice(
  rules: ToolRules,
  tool: OfferedTool,
  choice: ToolChoice,
  all: readonly string[],
): ToolRules {
  const others = (names: readonly string[]) => names.filter((each) => each !== tool.name);
  const offered = others(rules.tools ?? all);
  if (choice !== "off") offered.push(tool.name);
  const allowed = others(rules.allowedTools);
  if (choice === "run" && !tool.allowed) allowed.push(tool.name);
  const everything = all.every((each) => offered.includes(each));
  return { tools: everything ? null : offered, allowedTools: allowed };
}
