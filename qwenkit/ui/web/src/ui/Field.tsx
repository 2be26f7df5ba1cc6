/** Fields with their label, a hint and, when something is wrong, what it is. */

import { type ComponentProps, type ReactNode, useId } from "react";

import { classes } from "./classes";

interface Described {
  label: string;
  hint?: ReactNode;
  error?: string | null;
}

export function TextField({ label, hint, error, ...rest }: Described & ComponentProps<"input">) {
  const ids = useFieldIds(rest.id);
  return (
    <FieldFrame {...{ label, hint, error, ids }}>
      <input className="field" {...described(ids, hint, error)} {...rest} />
    </FieldFrame>
  );
}

export function TextArea({
  label,
  hint,
  error,
  className,
  ...rest
}: Described & ComponentProps<"textarea">) {
  const ids = useFieldIds(rest.id);
  return (
    <FieldFrame {...{ label, hint, error, ids }}>
      <textarea
        className={classes("field resize-y", className)}
        rows={4}
        {...described(ids, hint, error)}
        {...rest}
      />
    </FieldFrame>
  );
}

export function SelectField({
  label,
  hint,
  error,
  children,
  ...rest
}: Described & ComponentProps<"select">) {
  const ids = useFieldIds(rest.id);
  return (
    <FieldFrame {...{ label, hint, error, ids }}>
      <select className="field" {...described(ids, hint, error)} {...rest}>
        {children}
      </select>
    </FieldFrame>
  );
}

interface SliderProps {
  label: string;
  hint?: ReactNode;
  min: number;
  max: number;
  step: number;
  /** Null shows `unset` and puts the handle at `rest`. */
  value: number | null;
  rest: number;
  unset?: string;
  onChange: (value: number) => void;
}

export function Slider({
  label,
  hint,
  value,
  rest,
  unset = "default",
  onChange,
  ...range
}: SliderProps) {
  const ids = useFieldIds();
  return (
    <div>
      <div className="flex items-baseline justify-between">
        <label className="label" htmlFor={ids.control}>
          {label}
        </label>
        <output className="text-[13px] text-text-soft tabular-nums" htmlFor={ids.control}>
          {value ?? unset}
        </output>
      </div>
      <input
        type="range"
        className="range"
        {...range}
        value={value ?? rest}
        style={
          {
            "--filled": `${(100 * ((value ?? rest) - range.min)) / (range.max - range.min)}%`,
          } as object
        }
        aria-valuetext={value === null ? unset : String(value)}
        onChange={(event) => onChange(event.target.valueAsNumber)}
        {...described(ids, hint, null)}
      />
      {hint && (
        <p id={ids.hint} className="hint">
          {hint}
        </p>
      )}
    </div>
  );
}

interface SwitchProps {
  label: string;
  hint?: ReactNode;
  checked: boolean;
  onChange: (checked: boolean) => void;
  disabled?: boolean;
}

export function Switch({ label, hint, checked, onChange, disabled }: SwitchProps) {
  const ids = useFieldIds();
  return (
    <div>
      <div className="flex min-h-[36px] items-center justify-between gap-4">
        <span id={ids.control} className="text-[14px] font-[550]">
          {label}
        </span>
        <button
          type="button"
          role="switch"
          className="switch"
          aria-checked={checked}
          aria-labelledby={ids.control}
          aria-describedby={hint ? ids.hint : undefined}
          disabled={disabled}
          onClick={() => onChange(!checked)}
        />
      </div>
      {hint && (
        <p id={ids.hint} className="hint mt-0">
          {hint}
        </p>
      )}
    </div>
  );
}

interface FieldIds {
  control: string;
  hint: string;
  error: string;
}

function FieldFrame({
  label,
  hint,
  error,
  ids,
  children,
}: Described & { ids: FieldIds; children: ReactNode }) {
  return (
    <div>
      <label className="label" htmlFor={ids.control}>
        {label}
      </label>
      {children}
      {hint && (
        <p id={ids.hint} className="hint">
          {hint}
        </p>
      )}
      {error && (
        <p id={ids.error} className="hint text-bad" role="alert">
          {error}
        </p>
      )}
    </div>
  );
}

function useFieldIds(given?: string): FieldIds {
  const id = useId();
  return { control: given ?? id, hint: `${id}-hint`, error: `${id}-error` };
}

function described(ids: FieldIds, hint: ReactNode, error: string | null | undefined) {
  const by = [hint ? ids.hint : null, error ? ids.error : null].filter(Boolean).join(" ");
  return {
    id: ids.control,
    ...(by ? { "aria-describedby": by } : {}),
    ...(error ? { "aria-invalid": true as const } : {}),
  };
}
