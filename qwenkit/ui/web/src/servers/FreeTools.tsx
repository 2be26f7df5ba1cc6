/** What a tested server offers, and which of its tools may run without asking. */

import type { McpServer } from "../api/types";
import { Note, Switch } from "../ui";

interface FreeToolsProps {
  server: McpServer;
  allowed: readonly string[];
  onChange: (allowed: string[]) => void;
}

export function FreeTools({ server, allowed, onChange }: FreeToolsProps) {
  const n = server.tools.length;
  const toggle = (name: string, free: boolean) => {
    const others = allowed.filter((each) => each !== name);
    onChange(free ? [...others, name] : others);
  };
  return (
    <div className="flex flex-col gap-2.5">
      <Note kind="good">
        {server.software || "The server"} answers with {n === 1 ? "1 tool" : `${n} tools`}.
      </Note>
      {n > 0 && (
        <fieldset className="flex flex-col gap-2">
          <legend className="label">May run without asking</legend>
          {server.tools.map((tool) => (
            <Switch
              key={tool.own_name}
              label={tool.own_name}
              hint={<span className="line-clamp-2">{tool.description}</span>}
              checked={allowed.includes(tool.own_name)}
              onChange={(free) => toggle(tool.own_name, free)}
            />
          ))}
        </fieldset>
      )}
    </div>
  );
}
