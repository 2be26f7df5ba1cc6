/** What is served, for pickers and comparisons. */

import { listModels } from "../api/models";
import type { ServedModel } from "../api/types";
import { createStore } from "./store";

/** Empty until the server has answered; the model first, then its adapters. */
export const models = createStore<ServedModel[]>([]);

export async function refreshModels(): Promise<void> {
  models.set(await listModels());
}
