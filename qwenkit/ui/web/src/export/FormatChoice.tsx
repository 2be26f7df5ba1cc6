/** One of several file formats, each with what it is for. */

import { useId } from "react";

export interface FormatOption<F extends string> {
  format: F;
  label: string;
  about: string;
}

interface ChoiceProps<F extends string> {
  options: readonly FormatOption<F>[];
  chosen: F;
  onChange: (format: F) => void;
}

export function FormatChoice<F extends string>({ options, chosen, onChange }: ChoiceProps<F>) {
  const id = useId();
  return (
    <div role="radiogroup" aria-label="Format" className="grid gap-2 sm:grid-cols-2">
      {options.map(({ format, label, about }) => (
        <div key={format} className="choice" data-checked={format === chosen}>
          <label className="flex items-start gap-3 p-3">
            <input
              type="radio"
              className="mt-1 accent-accent"
              name={id}
              checked={format === chosen}
              aria-labelledby={`${id}-${format}`}
              aria-describedby={`${id}-${format}-about`}
              onChange={() => onChange(format)}
            />
            <span>
              <span id={`${id}-${format}`} className="block font-medium">
                {label}
              </span>
              <span id={`${id}-${format}-about`} className="block text-[13px] text-text-soft">
                {about}
              </span>
            </span>
          </label>
        </div>
      ))}
    </div>
  );
}
