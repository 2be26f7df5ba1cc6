/** Whether the model thinks before it answers, and how long. */

import { changeSettings, settings } from "../state/settings";
import { useStore } from "../state/store";
import { Switch } from "../ui";
import { NumberField } from "./NumberField";
import { Section } from "./Section";

export function ThinkingSettings() {
  const { thinking, thinkingBudget } = useStore(settings);
  return (
    <Section title="Thinking">
      <Switch
        label="Think before answering"
        hint="Better on hard questions, and slower."
        checked={thinking}
        onChange={(checked) => changeSettings({ thinking: checked })}
      />
      {thinking && (
        <NumberField
          label="Thinking budget"
          hint="Most tokens of thinking; the model then comes to its answer."
          placeholder="no limit"
          min={0}
          whole
          value={thinkingBudget}
          onChange={(value) => changeSettings({ thinkingBudget: value })}
        />
      )}
    </Section>
  );
}
