/** A number that may be absent. What is out of its range is said and not kept. */

import { type ReactNode, useState } from "react";

import { TextField } from "../ui";

interface NumberProps {
  label: string;
  hint?: ReactNode;
  /** What holds where nothing is written. */
  placeholder: string;
  min: number;
  max?: number;
  whole?: boolean;
  value: number | null;
  onChange: (value: number | null) => void;
}

export function NumberField({ label, hint, placeholder, min, max, whole, value, onChange }: NumberProps) {
  const [text, setText] = useState(value === null ? "" : String(value));
  const [known, setKnown] = useState(value);
  if (value !== known) {
    setKnown(value);
    if (read(text).value !== value) setText(value === null ? "" : String(value));
  }
  const error = mistake(text, { min, max, whole });
  return (
    <TextField
      label={label}
      hint={hint}
      placeholder={placeholder}
      inputMode={whole && min >= 0 ? "numeric" : "decimal"}
      autoComplete="off"
      value={text}
      error={error}
      onChange={(event) => {
        const next = event.target.value;
        setText(next);
        if (!mistake(next, { min, max, whole })) onChange(read(next).value);
      }}
    />
  );
}

function read(text: string): { value: number | null } {
  return { value: text.trim() === "" ? null : Number(text.trim().replace(",", ".")) };
}

interface Range {
  min: number;
  max: number | undefined;
  whole: boolean | undefined;
}

function mistake(text: string, { min, max, whole }: Range): string | null {
  const { value } = read(text);
  if (value === null) return null;
  if (!Number.isFinite(value)) return "This is no number";
  if (whole && !Number.isSafeInteger(value)) return "It must be a whole number";
  if (value < min || (max !== undefined && value > max)) {
    return max === undefined ? `It must be ${min} or more` : `It must be from ${min} to ${max}`;
  }
  return null;
}
