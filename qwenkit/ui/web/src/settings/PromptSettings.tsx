/** What the model is told before everything else. */

import { changeSettings, settings } from "../state/settings";
import { useStore } from "../state/store";
import { Button, TextArea } from "../ui";
import { Section } from "./Section";

export function PromptSettings() {
  const systemPrompt = useStore(settings, (all) => all.systemPrompt);
  const clear = systemPrompt && (
    <Button onClick={() => changeSettings({ systemPrompt: "" })}>Clear</Button>
  );
  return (
    <Section title="System prompt" action={clear}>
      <TextArea
        label="What the model is told first"
        hint="Empty takes the server's own."
        placeholder="You are a patient teacher. Answer in two sentences."
        value={systemPrompt}
        onChange={(event) => changeSettings({ systemPrompt: event.target.value })}
      />
    </Section>
  );
}
