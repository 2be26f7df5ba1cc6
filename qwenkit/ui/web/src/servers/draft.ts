/** A server that is being written down: the form's fields, and the request that they make. Pure. */

import type { NewMcpServer } from "../api/types";

export type Auth = "none" | "bearer" | "header";

export interface Draft {
  name: string;
  url: string;
  /** Empty goes by the URL. */
  type: "" | "http" | "sse";
  auth: Auth;
  token: string;
  headerName: string;
  headerValue: string;
  /** Seconds; null is the server's default. */
  timeout: number | null;
  /** Own names of the tools that run without asking. */
  allowed: string[];
}

export const EMPTY_DRAFT: Draft = {
  name: "",
  url: "",
  type: "",
  auth: "none",
  token: "",
  headerName: "",
  headerValue: "",
  timeout: null,
  allowed: [],
};

function headersOf(draft: Draft): Record<string, string> {
  switch (draft.auth) {
    case "none":
      return {};
    case "bearer":
      return { Authorization: `Bearer ${draft.token.trim()}` };
    case "header":
      return { [draft.headerName.trim()]: draft.headerValue.trim() };
  }
}

export function requestOf(draft: Draft): NewMcpServer {
  const headers = headersOf(draft);
  return {
    name: draft.name.trim(),
    url: draft.url.trim(),
    ...(draft.type ? { type: draft.type } : {}),
    ...(Object.keys(headers).length > 0 ? { headers } : {}),
    ...(draft.allowed.length > 0 ? { always_allow: draft.allowed } : {}),
    ...(draft.timeout === null ? {} : { timeout: draft.timeout }),
  };
}

/** What a test told holds for these fields and no others. */
export function connectionOf(draft: Draft): string {
  return JSON.stringify({ ...requestOf(draft), name: "", always_allow: [] });
}

/** The field that an error of the server is about. */
export function fieldOf(param: string | null): "name" | "url" | "headers" | "timeout" | null {
  const first = param?.split(/[.[]/)[0] ?? "";
  return first === "name" || first === "url" || first === "headers" || first === "timeout"
    ? first
    : null;
}
