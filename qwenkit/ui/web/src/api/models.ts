/** The served model and its adapters. */

import { getJson, remove, sendJson } from "./http";
import type { ServedModel } from "./types";

const ADAPTERS = "/admin/adapters";

/** The model first, then its adapters. */
export async function listModels(): Promise<ServedModel[]> {
  return (await getJson<{ data: ServedModel[] }>("/v1/models")).data;
}

export interface LoadedAdapter {
  name: string;
  version: string;
  path: string;
  rank: number;
  size_bytes: number;
  /** Whether it was trained with the served model's chat template; null where it does not say. */
  template_fits: boolean | null;
}

/** Loads a folder or file of the server's machine; needs the admin role. */
export const loadAdapter = (name: string, path: string, replace: boolean): Promise<LoadedAdapter> =>
  sendJson<LoadedAdapter>("POST", ADAPTERS, { name, path, replace });

/** Needs the admin role. */
export const unloadAdapter = (name: string): Promise<void> =>
  remove(`${ADAPTERS}/${encodeURIComponent(name)}`);
