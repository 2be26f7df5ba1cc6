/** How an MCP server is doing, in a word. */

import { classes } from "../ui";

const LOOKS: Record<string, string> = {
  connected: "bg-good-soft text-good",
  connecting: "bg-warn-soft text-warn",
  failed: "bg-bad-soft text-bad",
};

export function StateBadge({ state }: { state: string }) {
  return (
    <span
      className={classes(
        "flex-none rounded-full px-2.5 py-0.5 text-[12.5px] font-medium",
        LOOKS[state] ?? "bg-sunken text-text-soft",
      )}
    >
      {state}
    </span>
  );
}
