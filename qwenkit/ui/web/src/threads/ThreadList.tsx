/** All conversations: grouped by day, or found by title and text. */

import { useDeferredValue, useState } from "react";

import { describeError } from "../api/http";
import { textOf } from "../api/text";
import { conversation } from "../state/conversation";
import { openNewThread, openThread, route } from "../state/route";
import { useStore } from "../state/store";
import { threadsChanged } from "../state/threads";
import { showToast } from "../state/toasts";
import { Button, Empty, Icon, Note, Spinner } from "../ui";
import { deleteSoon, keepThread, leaving } from "./deletion";
import { groupByDay } from "./days";
import { SearchResults } from "./SearchResults";
import { renameThread, type ThreadSummary } from "./summaries";
import { ThreadGroups } from "./ThreadGroups";
import type { RowActions } from "./ThreadRow";
import { titleOf, UNTITLED } from "./title";
import { useThreads } from "./useThreads";

export function ThreadList({ onPick }: { onPick: () => void }) {
  const [query, setQuery] = useState("");
  const sought = useDeferredValue(query.trim());
  const actions = useActions(onPick);
  return (
    <>
      <SearchField query={query} onChange={setQuery} />
      <div className="min-h-0 flex-1 overflow-y-auto px-2 pb-2">
        {sought ? <SearchResults query={sought} actions={actions} /> : <AllThreads actions={actions} />}
      </div>
      <UndoBar />
    </>
  );
}

function useActions(onPick: () => void): RowActions {
  return {
    open: (thread) => {
      openThread(thread.id);
      onPick();
    },
    rename: (thread, title) => {
      renameThread(thread.id, title || null)
        .catch((error: unknown) => showToast(describeError(error), "error"))
        .finally(threadsChanged);
    },
    remove: (thread) => {
      const shown = route.get();
      if (shown.page === "chat" && shown.threadId === thread.id) openNewThread();
      deleteSoon(thread);
    },
  };
}

function AllThreads({ actions }: { actions: RowActions }) {
  const threads = useThreads();
  const shown = useTitled(threads.shown);
  const failed = threads.error && (
    <Note kind="bad" action={<Button onClick={threads.reload}>Try again</Button>}>
      {threads.error}
    </Note>
  );
  if (!threads.data) return failed || <Spinner label="Loading conversations" />;
  return (
    <>
      {failed}
      {shown.length === 0 && (
        <Empty icon="chat" title="No conversations yet">
          What you write is kept here.
        </Empty>
      )}
      <ThreadGroups groups={groupByDay(shown, (thread) => thread.changedAt, new Date())} actions={actions} />
      {threads.showMore && (
        <Button className="w-full" onClick={threads.showMore}>
          Show older
        </Button>
      )}
    </>
  );
}

/** The shown conversation has a title as soon as it has a message, before the server tells it. */
function useTitled(threads: readonly ThreadSummary[]): readonly ThreadSummary[] {
  const { threadId, messages } = useStore(conversation);
  const first = messages[0];
  if (!first) return threads;
  return threads.map((thread) =>
    thread.id === threadId && thread.title === UNTITLED
      ? { ...thread, title: titleOf(textOf(first)) }
      : thread,
  );
}

function SearchField({ query, onChange }: { query: string; onChange: (query: string) => void }) {
  return (
    <div className="relative px-3 pb-2" role="search">
      <span className="pointer-events-none absolute top-0 bottom-2 left-6 flex items-center text-text-soft">
        <Icon name="search" size={16} />
      </span>
      <input
        type="search"
        className="field pl-9"
        aria-label="Search conversations"
        placeholder="Search"
        value={query}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape" || !query) return;
          event.preventDefault();
          event.stopPropagation();
          onChange("");
        }}
      />
    </div>
  );
}

function UndoBar() {
  const thread = useStore(leaving);
  return (
    <div role="status" className="px-2">
      {thread && (
        <div className="mb-2 flex items-center gap-2 rounded-xl bg-sunken py-1 pr-1 pl-3 text-[14px]">
          <span className="min-w-0 flex-1 truncate">Deleted “{thread.title}”</span>
          <Button key={thread.id} className="text-accent-text" autoFocus onClick={keepThread}>
            Undo
          </Button>
        </div>
      )}
    </div>
  );
}
