/** A model's and an adapter's facts in a few words. Pure. */

import type { ServedModel } from "../api/types";

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const COUNT = new Intl.NumberFormat("en");

export function sizeText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value >= 100 ? Math.round(value) : Number(value.toFixed(1))} ${units[power]}`;
}

/** Such as `llama.cpp · 4,096 tokens of context · qwen3 8B Q4_K_M`. */
export function factsOf(model: ServedModel): string[] {
  const { meta } = model;
  if (model.parent !== null) {
    return [
      meta.version === undefined ? "" : `version ${String(meta.version).slice(0, 8)}`,
      meta.rank === undefined ? "" : `LoRA of rank ${meta.rank}`,
      meta.size === undefined ? "" : sizeText(meta.size),
    ].filter(Boolean);
  }
  return [
    meta.description,
    meta.runtime ?? "",
    meta.n_ctx === undefined ? "" : `${COUNT.format(meta.n_ctx)} tokens of context`,
    meta.n_params === undefined ? "" : `${COMPACT.format(meta.n_params)} parameters`,
    meta.fingerprint === undefined ? "" : `weights ${meta.fingerprint}`,
  ].filter(Boolean);
}
