/** Who ratings come from, and whether answers are kept for learning. */

import { me } from "../state/me";
import { changeSettings, settings } from "../state/settings";
import { useStore } from "../state/store";
import { Switch, TextField } from "../ui";
import { Section } from "./Section";

export function RatingSettings() {
  const { rater, store } = useStore(settings);
  const hasFeedback = useStore(me, (known) => known?.features.feedback ?? false);
  if (!hasFeedback) return null;
  return (
    <Section title="Ratings and log">
      <TextField
        label="Your name for ratings"
        hint="Stands beside what you rate. Empty is anonymous."
        placeholder="anonymous"
        maxLength={128}
        autoComplete="nickname"
        value={rater}
        onChange={(event) => changeSettings({ rater: event.target.value })}
      />
      <Switch
        label="Keep answers in the server's log"
        hint="What is not kept can't be rated. The conversation itself stays."
        checked={store}
        onChange={(checked) => changeSettings({ store: checked })}
      />
    </Section>
  );
}
