/** Who the server takes us for; asked at the start and whenever the key changes. */

import { getMe } from "../api/me";
import type { Me } from "../api/types";
import { keyStore } from "./key";
import { createStore } from "./store";

/** Null until the server has answered. */
export const me = createStore<Me | null>(null);

export async function refreshMe(): Promise<void> {
  me.set(await getMe());
}

keyStore.subscribe(() => void refreshMe().catch(() => me.set(null)));
