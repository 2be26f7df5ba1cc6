/** For each tool whether the model gets it, and whether it asks before it runs. */

import { listTools } from "../api/mcp";
import { me } from "../state/me";
import { changeSettings, settings } from "../state/settings";
import { useStore } from "../state/store";
import { Button, Note, useAsync } from "../ui";
import { Section } from "./Section";
import {
  choiceOf,
  type OfferedTool,
  type ToolChoice,
  type ToolGroup,
  toolGroups,
  withChoice,
} from "./toolChoices";

export function ToolSettings() {
  const hasMcp = useStore(me, (known) => known?.features.mcp ?? false);
  const rules = useStore(settings);
  const servers = useAsync(async () => (hasMcp ? await listTools() : []), hasMcp);
  const groups = toolGroups(servers.data ?? []);
  const names = groups.flatMap((group) => group.tools.map((tool) => tool.name));
  const untouched = rules.tools === null && rules.allowedTools.length === 0;
  const reset = (
    <Button disabled={untouched} onClick={() => changeSettings({ tools: null, allowedTools: [] })}>
      Reset tools
    </Button>
  );
  const choose = (tool: OfferedTool) => (choice: ToolChoice) =>
    changeSettings(withChoice(rules, tool, choice, names));
  return (
    <Section title="Tools" action={reset}>
      {servers.error && <Note kind="bad">{servers.error}</Note>}
      {groups.map((group) => (
        <Group key={group.name} group={group}>
          {(tool) => <ToolRow tool={tool} choice={choiceOf(tool, rules)} onChange={choose(tool)} />}
        </Group>
      ))}
    </Section>
  );
}

function Group({
  group,
  children,
}: {
  group: ToolGroup;
  children: (tool: OfferedTool) => React.ReactNode;
}) {
  return (
    <div>
      <h4 className="mb-1 text-[12.5px] font-semibold text-text-soft">{group.name}</h4>
      <ul className="flex flex-col">
        {group.tools.map((tool) => (
          <li key={tool.name}>{children(tool)}</li>
        ))}
      </ul>
    </div>
  );
}

interface RowProps {
  tool: OfferedTool;
  choice: ToolChoice;
  onChange: (choice: ToolChoice) => void;
}

function ToolRow({ tool, choice, onChange }: RowProps) {
  return (
    <div className="flex items-center gap-3 py-1">
      <span className="min-w-0 flex-1">
        <span className="block truncate font-mono text-[13px]">{tool.name}</span>
        <span className="line-clamp-1 text-[13px] text-text-soft" title={tool.description}>
          {tool.description}
        </span>
      </span>
      <select
        className="field w-[8.75rem] flex-none"
        aria-label={`Use of ${tool.name}`}
        value={choice}
        onChange={(event) => onChange(event.target.value as ToolChoice)}
      >
        <option value="off">Off</option>
        {!tool.allowed && <option value="ask">Asks first</option>}
        <option value="run">Runs freely</option>
      </select>
    </div>
  );
}
