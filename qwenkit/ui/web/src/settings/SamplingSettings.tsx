/** How tokens are drawn: presets of the thinking modes, and every value by itself. */

import { changeSettings, type Sampling, settings } from "../state/settings";
import { useStore } from "../state/store";
import { Button, SelectField, Slider } from "../ui";
import { NumberField } from "./NumberField";
import { advised, type Preset, PRESETS, presetOf, withValue } from "./presets";
import { Section } from "./Section";

export function SamplingSettings() {
  const { sampling, thinking, maxTokens } = useStore(settings);
  const preset = presetOf(sampling);
  const rest = advised(thinking);
  const untouched = preset === "automatic" && maxTokens === null;
  const set = (name: keyof Sampling) => (value: number | null) =>
    changeSettings({ sampling: withValue(sampling, name, value) });
  const reset = (
    <Button
      disabled={untouched}
      onClick={() => changeSettings({ sampling: PRESETS.automatic, maxTokens: null })}
    >
      Reset sampling
    </Button>
  );
  return (
    <Section title="Sampling" action={reset}>
      <PresetField preset={preset} />
      <Slider
        label="Temperature"
        hint="0 always takes the likeliest token."
        min={0}
        max={2}
        step={0.05}
        value={sampling.temperature ?? null}
        rest={rest.temperature}
        unset={`${rest.temperature}, advised`}
        onChange={set("temperature")}
      />
      <Slider
        label="Top p"
        min={0}
        max={1}
        step={0.01}
        value={sampling.top_p ?? null}
        rest={rest.top_p}
        unset={`${rest.top_p}, advised`}
        onChange={set("top_p")}
      />
      <Slider
        label="Top k"
        hint="0 keeps every token."
        min={0}
        max={100}
        step={1}
        value={sampling.top_k ?? null}
        rest={rest.top_k}
        unset={`${rest.top_k}, advised`}
        onChange={set("top_k")}
      />
      <Slider
        label="Min p"
        min={0}
        max={1}
        step={0.01}
        value={sampling.min_p ?? null}
        rest={rest.min_p}
        unset={`${rest.min_p}, advised`}
        onChange={set("min_p")}
      />
      <details className="fold">
        <summary>Penalties, seed and length</summary>
        <div className="flex flex-col gap-4 pt-3">
          <MoreFields sampling={sampling} set={set} />
          <NumberField
            label="Most tokens of an answer"
            placeholder="the server's limit"
            min={1}
            whole
            value={maxTokens}
            onChange={(value) => changeSettings({ maxTokens: value })}
          />
        </div>
      </details>
    </Section>
  );
}

function PresetField({ preset }: { preset: Preset | "custom" }) {
  return (
    <SelectField
      label="Preset"
      hint="By the model card of Qwen3."
      value={preset}
      onChange={(event) =>
        changeSettings({ sampling: PRESETS[event.target.value as Preset] })
      }
    >
      <option value="automatic">As advised, by the thinking switch</option>
      <option value="thinking">Always as with thinking</option>
      <option value="direct">Always as without thinking</option>
      {preset === "custom" && <option value="custom">Your own</option>}
    </SelectField>
  );
}

interface MoreProps {
  sampling: Sampling;
  set: (name: keyof Sampling) => (value: number | null) => void;
}

function MoreFields({ sampling, set }: MoreProps) {
  return (
    <>
      <NumberField
        label="Presence penalty"
        hint="Taken off the logit of every token already seen, from -2 to 2."
        placeholder="0"
        min={-2}
        max={2}
        value={sampling.presence_penalty ?? null}
        onChange={set("presence_penalty")}
      />
      <NumberField
        label="Frequency penalty"
        hint="Taken off for each time a token was seen, from -2 to 2."
        placeholder="0"
        min={-2}
        max={2}
        value={sampling.frequency_penalty ?? null}
        onChange={set("frequency_penalty")}
      />
      <NumberField
        label="Repeat penalty"
        hint="1 is off."
        placeholder="1"
        min={0.01}
        max={100}
        value={sampling.repeat_penalty ?? null}
        onChange={set("repeat_penalty")}
      />
      <NumberField
        label="Seed"
        hint="The same seed draws the same answer."
        placeholder="a new one each time"
        min={0}
        whole
        value={sampling.seed ?? null}
        onChange={set("seed")}
      />
    </>
  );
}
