/** Who the server takes us for, and what it offers. */

import { getJson } from "./http";
import type { Me } from "./types";

export const getMe = (): Promise<Me> => getJson<Me>("/v1/me");
