/** Which answers of the log are wanted. */

import type { FeedbackQuery } from "../api/types";
import { models } from "../state/models";
import { useStore } from "../state/store";
import { SelectField, TextField } from "../ui";

interface FiltersProps {
  query: FeedbackQuery;
  onChange: (query: FeedbackQuery) => void;
}

export function LogFilters({ query, onChange }: FiltersProps) {
  const served = useStore(models);
  const adapters = served.filter((model) => model.parent !== null);
  const set = (changes: FeedbackQuery) => onChange({ ...query, ...changes });
  return (
    <details className="fold">
      <summary>Only some answers</summary>
      <div className="grid gap-3.5 pt-2 sm:grid-cols-2">
        <TextField
          label="From"
          type="date"
          value={query.since ?? ""}
          onChange={(event) => set({ since: event.target.value })}
        />
        <TextField
          label="Until"
          type="date"
          value={query.until ?? ""}
          onChange={(event) => set({ until: event.target.value })}
        />
        <SelectField
          label="Thumb"
          value={query.thumb ?? ""}
          onChange={(event) => set({ thumb: (event.target.value || undefined) as FeedbackQuery["thumb"] })}
        >
          <option value="">Any</option>
          <option value="up">Up</option>
          <option value="down">Down</option>
        </SelectField>
        <SelectField
          label="Adapter"
          value={query.adapter ?? ""}
          onChange={(event) => set({ adapter: event.target.value })}
        >
          <option value="">Any, or none</option>
          {adapters.map((adapter) => (
            <option key={adapter.id} value={adapter.id}>
              {adapter.id}
            </option>
          ))}
        </SelectField>
        <TextField
          label="Rater"
          placeholder="anybody"
          value={query.rater ?? ""}
          onChange={(event) => set({ rater: event.target.value })}
        />
        <TextField
          label="Text"
          placeholder="anything"
          value={query.text ?? ""}
          onChange={(event) => set({ text: event.target.value })}
        />
      </div>
    </details>
  );
}
