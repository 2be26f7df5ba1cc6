/** The model or adapter that answers, beside the composer. */

import { models, refreshModels } from "../state/models";
import { changeSettings, settings } from "../state/settings";
import { useStore } from "../state/store";

export function ModelPicker() {
  const served = useStore(models);
  const chosen = useStore(settings, ({ model }) => model);
  const gone = chosen !== null && served.length > 0 && !served.some(({ id }) => id === chosen);
  return (
    <select
      className="chip model-picker"
      aria-label="Model"
      value={chosen ?? ""}
      onFocus={() => void refreshModels().catch(() => undefined)}
      onChange={(event) => changeSettings({ model: event.target.value || null })}
    >
      <option value="">{served[0]?.id ?? "Model"}</option>
      {served.slice(1).map(({ id }) => (
        <option key={id} value={id}>
          {id}
        </option>
      ))}
      {gone && <option value={chosen}>{chosen} (not loaded)</option>}
    </select>
  );
}
