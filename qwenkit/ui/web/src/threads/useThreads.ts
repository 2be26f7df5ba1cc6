/** The threads to list, read again when one changes, and more of them when asked for. */

import { useCallback, useEffect, useMemo, useState } from "react";

import { useStore } from "../state/store";
import { threadsVersion } from "../state/threads";
import { type Async, useAsync } from "../ui";
import { hidden } from "./deletion";
import { findThreads, type Hit } from "./find";
import { loadSearchable } from "./search";
import { loadSummaries, PAGE_SIZE, type ThreadSummary } from "./summaries";

const BUSY_MS = 1500;
const NONE: readonly ThreadSummary[] = [];

interface Threads extends Async<ThreadSummary[]> {
  shown: readonly ThreadSummary[];
  /** Null where all of them are shown. */
  showMore: (() => void) | null;
}

export function useThreads(): Threads {
  const version = useStore(threadsVersion);
  const left = useStore(hidden);
  const [limit, setLimit] = useState(PAGE_SIZE);
  const loaded = useAsync(() => loadSummaries(limit), `${version} ${limit}`);
  const found = loaded.data ?? NONE;
  useRereading(loaded, found.some((thread) => thread.status === "busy"));
  const more = useCallback(() => setLimit((before) => Math.min(before + PAGE_SIZE, 1000)), []);
  return {
    ...loaded,
    shown: found.filter((thread) => !left.includes(thread.id)),
    showMore: found.length >= limit && limit < 1000 ? more : null,
  };
}

/** A busy thread changes by itself: it gets its title, and ends. */
function useRereading({ data, reload }: Async<unknown>, busy: boolean): void {
  useEffect(() => {
    if (!busy) return;
    const timer = setTimeout(reload, BUSY_MS);
    return () => clearTimeout(timer);
  }, [data, reload, busy]);
}

/** What a query finds; the threads' texts are read once, and again when one changes. */
export function useThreadSearch(query: string): Async<unknown> & { hits: Hit[] } {
  const version = useStore(threadsVersion);
  const left = useStore(hidden);
  const texts = useAsync(loadSearchable, version);
  const hits = useMemo(() => findThreads(texts.data ?? [], query), [texts.data, query]);
  return { ...texts, hits: hits.filter(({ summary }) => !left.includes(summary.id)) };
}
