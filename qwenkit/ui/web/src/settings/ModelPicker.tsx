/** Who answers: the served model as it is, or one of its adapters. */

import { useEffect, useId, useState } from "react";

import { describeError } from "../api/http";
import { unloadAdapter } from "../api/models";
import type { ServedModel } from "../api/types";
import { me } from "../state/me";
import { models, refreshModels } from "../state/models";
import { changeSettings, settings } from "../state/settings";
import { useStore } from "../state/store";
import { showToast } from "../state/toasts";
import { Button, IconButton, Note, Question, Spinner } from "../ui";
import { AdapterLoader } from "./AdapterLoader";
import { factsOf } from "./facts";
import { Section } from "./Section";

const report = (error: unknown) => showToast(describeError(error), "error");

export function ModelPicker() {
  const served = useStore(models);
  const chosen = useStore(settings, (all) => all.model);
  const isAdmin = useStore(me, (known) => known?.role === "admin");
  const group = useId();
  useEffect(() => void refreshModels().catch(report), []);

  const reload = (
    <IconButton
      icon="retry"
      label="Read models and adapters again"
      size={16}
      onClick={() => void refreshModels().catch(report)}
    />
  );
  const known = served.find((model) => model.id === chosen || model.aliases.includes(chosen ?? ""));
  return (
    <Section title="Model and adapter" action={reload}>
      {served.length === 0 && <Spinner label="Loading models" />}
      {served.length > 0 && chosen !== null && !known && (
        <Note
          kind="warn"
          action={<Button onClick={() => changeSettings({ model: null })}>Use the served model</Button>}
        >
          “{chosen}” is not served any more.
        </Note>
      )}
      <div role="radiogroup" aria-label="Model and adapter" className="flex flex-col gap-2">
        {served.map((model) => (
          <Choice
            key={model.id}
            model={model}
            group={group}
            checked={model.parent === null ? chosen === null || known === model : known === model}
            removable={isAdmin && model.parent !== null}
          />
        ))}
      </div>
      {isAdmin && <AdapterLoader />}
    </Section>
  );
}

interface ChoiceProps {
  model: ServedModel;
  group: string;
  checked: boolean;
  removable: boolean;
}

function Choice({ model, group, checked, removable }: ChoiceProps) {
  const [asking, setAsking] = useState(false);
  const choose = () => changeSettings({ model: model.parent === null ? null : model.id });
  return (
    <div className="choice" data-checked={checked}>
      <div className="flex items-center">
        <label className="flex min-w-0 flex-1 items-start gap-3 p-3">
          <input
            type="radio"
            className="mt-1 accent-accent"
            name={group}
            checked={checked}
            onChange={choose}
            aria-labelledby={`${group}-${model.id}-name`}
            aria-describedby={`${group}-${model.id}-facts`}
          />
          <span className="min-w-0 flex-1">
            <span id={`${group}-${model.id}-name`} className="block font-medium break-words">
              {model.id}
            </span>
            <span
              id={`${group}-${model.id}-facts`}
              className="block text-[13px] break-words text-text-soft"
            >
              {factsOf(model).join(" · ")}
            </span>
          </span>
        </label>
        {removable && (
          <IconButton
            icon="trash"
            label={`Unload ${model.id}`}
            size={16}
            className="m-1.5"
            aria-expanded={asking}
            onClick={() => setAsking(!asking)}
          />
        )}
      </div>
      {asking && <UnloadQuestion name={model.id} onLeave={() => setAsking(false)} />}
    </div>
  );
}

function UnloadQuestion({ name, onLeave }: { name: string; onLeave: () => void }) {
  const [busy, setBusy] = useState(false);
  const unload = async () => {
    setBusy(true);
    try {
      await unloadAdapter(name);
      if (settings.get().model === name) changeSettings({ model: null });
      showToast(`“${name}” is unloaded`);
      await refreshModels();
    } catch (error) {
      report(error);
      onLeave();
    }
  };
  return (
    <div className="px-3 pb-3">
      <Question yes="Unload" busy={busy} onYes={() => void unload()} onNo={onLeave}>
        Unload “{name}”? Answers that run with it end with it.
      </Question>
    </div>
  );
}
