/** Loads something and tells how far that is; a newer load makes older answers void. */

import { useCallback, useEffect, useRef, useState } from "react";

import { describeError } from "../api/http";

export interface Async<T> {
  data: T | null;
  error: string | null;
  loading: boolean;
  reload: () => void;
}

/** `key` names what is loaded: another key loads anew. */
export function useAsync<T>(load: () => Promise<T>, key: unknown): Async<T> {
  const [state, setState] = useState<Omit<Async<T>, "reload">>({
    data: null,
    error: null,
    loading: true,
  });
  const latest = useRef(load);
  latest.current = load;
  const turn = useRef(0);
  const reload = useCallback(() => {
    const mine = ++turn.current;
    const settle = (next: Partial<Omit<Async<T>, "reload">>) => {
      if (mine === turn.current) setState((before) => ({ ...before, loading: false, ...next }));
    };
    setState((before) => ({ ...before, loading: true }));
    latest.current().then(
      (data) => settle({ data, error: null }),
      (error: unknown) => settle({ error: describeError(error) }),
    );
  }, []);
  useEffect(() => {
    reload();
    return () => void turn.current++;
  }, [reload, key]);
  return { ...state, reload };
}
