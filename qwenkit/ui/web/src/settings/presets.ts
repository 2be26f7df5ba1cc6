/** Sampling as Qwen3's makers advise it (model card of Qwen3-8B), and what a person made of it. Pure. */

import type { Sampling } from "../state/settings";

type Advice = Required<Pick<Sampling, "temperature" | "top_p" | "top_k" | "min_p">>;

export const THINKING: Advice = { temperature: 0.6, top_p: 0.95, top_k: 20, min_p: 0 };
export const DIRECT: Advice = { temperature: 0.7, top_p: 0.8, top_k: 20, min_p: 0 };

export const advised = (thinking: boolean): Advice => (thinking ? THINKING : DIRECT);

export const PRESETS = {
  automatic: {},
  thinking: THINKING,
  direct: DIRECT,
} satisfies Record<string, Sampling>;

export type Preset = keyof typeof PRESETS;

function same(a: Sampling, b: Sampling): boolean {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]) as Set<keyof Sampling>;
  return [...names].every((name) => a[name] === b[name]);
}

/** The preset that a sampling is, or `custom`. */
export function presetOf(sampling: Sampling): Preset | "custom" {
  const names = Object.keys(PRESETS) as Preset[];
  return names.find((name) => same(PRESETS[name], sampling)) ?? "custom";
}

/** With a value, or without one where it is null. */
export function withValue(sampling: Sampling, name: keyof Sampling, value: number | null): Sampling {
  const rest = Object.fromEntries(Object.entries(sampling).filter(([key]) => key !== name));
  return value === null ? rest : { ...rest, [name]: value };
}
