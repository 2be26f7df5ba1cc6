/** Requests to the server that the page came from: keys, JSON, and errors that say what to do. */

import { getKey, requestKey } from "../state/key";

/** What the server answered instead of what was asked for. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly param: string | null = null,
    readonly code: string | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** Like `fetch`, with the key; where one is missing or wrong, the person is asked and it is tried
 * again.
 */
export async function authorizedFetch(
  input: RequestInfo | URL,
  init: RequestInit = {},
): Promise<Response> {
  for (;;) {
    const key = getKey();
    const response = await fetch(input, { ...init, headers: withKey(init.headers, key) });
    if (response.status !== 401) return response;
    const answered = getKey() !== key || (await requestKey(key));
    if (!answered) return response;
  }
}

/** Raises: ApiError where the answer is no success. */
export async function request(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
  const response = await authorizedFetch(input, init);
  if (!response.ok) throw await toError(response);
  return response;
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await request(path, signal ? { signal } : {});
  return (await response.json()) as T;
}

export async function sendJson<T>(
  method: "POST" | "PATCH" | "PUT",
  path: string,
  body: unknown,
): Promise<T> {
  const response = await request(path, {
    method,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return (await response.json()) as T;
}

export async function remove(path: string): Promise<void> {
  await request(path, { method: "DELETE" });
}

/** A path with the parameters that are there: null, undefined and "" are left out. */
export function withQuery(path: string, query: object): string {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const search = new URLSearchParams(
    given.map(([name, value]) => [name, String(value)]),
  ).toString();
  return search ? `${path}?${search}` : path;
}

/** What to tell a person about a failure. */
export function describeError(error: unknown): string {
  if (isUnreachable(error)) return "The server can't be reached. Is `qwenkit serve` running?";
  return error instanceof Error ? error.message : String(error);
}

/** The browser says TypeError, and LangGraph's client ConnectionError. */
const isUnreachable = (error: unknown): boolean =>
  error instanceof TypeError || (error instanceof Error && error.name === "ConnectionError");

async function toError(response: Response): Promise<ApiError> {
  const body: unknown = await response.json().catch(() => null);
  const told = (body as { error?: Record<string, string | null> } | null)?.error;
  const message = told?.message ?? `The server answered ${response.status} ${response.statusText}`;
  return new ApiError(response.status, message, told?.param ?? null, told?.code ?? null);
}

function withKey(headers: HeadersInit | undefined, key: string | null): Headers {
  const all = new Headers(headers);
  if (key) all.set("Authorization", `Bearer ${key}`);
  return all;
}
