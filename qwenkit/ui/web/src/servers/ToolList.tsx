/** Tools of a server: what they do, what they take, and whether they ask before they run. */

import type { McpTool } from "../api/types";
import { argumentsOf } from "./arguments";

export function ToolList({ tools }: { tools: readonly McpTool[] }) {
  return (
    <ul className="flex flex-col divide-y">
      {tools.map((tool) => (
        <li key={tool.name} className="py-2.5 first:pt-1 last:pb-0">
          <Tool tool={tool} />
        </li>
      ))}
    </ul>
  );
}

function Tool({ tool }: { tool: McpTool }) {
  const taken = argumentsOf(tool.parameters);
  return (
    <>
      <div className="flex flex-wrap items-center gap-x-2 gap-y-1">
        <span className="font-mono text-[13px] font-semibold break-all">{tool.name}</span>
        {tool.title && <span className="text-[13px] text-text-soft">{tool.title}</span>}
      </div>
      <p className="mt-0.5 text-[13.5px] break-words whitespace-pre-line">{tool.description}</p>
      {taken.length > 0 && (
        <p className="mt-1 text-[13px] text-text-soft">
          Takes{" "}
          {taken.map((each, index) => (
            <span key={each.name}>
              {index > 0 && ", "}
              <code className="font-mono text-[12.5px]">{each.name}</code>
              {!each.required && " (optional)"}
            </span>
          ))}
        </p>
      )}
      <p className="mt-1.5 flex flex-wrap gap-1.5">
        <Mark>{tool.allowed ? "Runs without asking" : "Asks before it runs"}</Mark>
        {tool.read_only && <Mark>Changes nothing</Mark>}
        {!tool.read_only && tool.destructive && <Mark>May delete or overwrite</Mark>}
      </p>
    </>
  );
}

function Mark({ children }: { children: string }) {
  return (
    <span className="rounded-full bg-sunken px-2 py-0.5 text-[12px] text-text-soft">{children}</span>
  );
}
