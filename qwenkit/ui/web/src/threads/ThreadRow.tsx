/** A thread in the list: opens it, and renames or deletes it behind a button. */

import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";

import { classes, Icon, IconButton, Question } from "../ui";
import { RenameField } from "./RenameField";
import type { Excerpt } from "./find";
import type { ThreadSummary } from "./summaries";

export interface RowActions {
  open: (thread: ThreadSummary) => void;
  rename: (thread: ThreadSummary, title: string) => void;
  remove: (thread: ThreadSummary) => void;
}

interface RowProps extends RowActions {
  thread: ThreadSummary;
  current: boolean;
  /** The row that Tab reaches; arrow keys reach the others. */
  reachable: boolean;
  excerpt: Excerpt | null;
  onReach: () => void;
}

type Mode = "plain" | "choosing" | "renaming" | "deleting";

export function ThreadRow(props: RowProps) {
  const { thread, current, reachable, excerpt, onReach } = props;
  const [mode, setMode] = useState<Mode>("plain");
  const [title, refocus] = useRefocus<HTMLButtonElement>();
  const actions = useId();
  const leave = () => {
    setMode("plain");
    refocus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "F2") setMode("renaming");
    else if (event.key === "Delete") setMode("deleting");
    else return;
    event.preventDefault();
  };

  if (mode === "renaming") {
    const save = (given: string) => {
      props.rename(thread, given);
      leave();
    };
    return (
      <li className="px-1 py-0.5">
        <RenameField title={thread.title} onSave={save} onLeave={leave} />
      </li>
    );
  }
  return (
    <li className={classes("thread-row", current && "thread-row-current")}>
      <div className="flex items-center">
        <button
          ref={title}
          type="button"
          className="thread-open"
          data-thread-row
          aria-current={current ? "page" : undefined}
          tabIndex={reachable ? 0 : -1}
          onFocus={onReach}
          onClick={() => props.open(thread)}
          onKeyDown={onKeyDown}
        >
          <span className="flex items-center gap-2">
            <span className="truncate">{thread.title}</span>
            <Status status={thread.status} />
          </span>
          {excerpt && <ExcerptLine excerpt={excerpt} />}
        </button>
        <IconButton
          icon="more"
          label={`Options of ${thread.title}`}
          className="thread-more"
          tabIndex={reachable ? 0 : -1}
          aria-expanded={mode !== "plain"}
          aria-controls={actions}
          onClick={() => setMode(mode === "plain" ? "choosing" : "plain")}
        />
      </div>
      <div id={actions}>
        {mode === "choosing" && (
          <Choices
            onRename={() => setMode("renaming")}
            onDelete={() => setMode("deleting")}
            onLeave={leave}
          />
        )}
        {mode === "deleting" && (
          <div className="px-2.5 pb-2">
            <Question yes="Delete" onYes={() => props.remove(thread)} onNo={leave}>
              Delete “{thread.title}” with all its answers?
            </Question>
          </div>
        )}
      </div>
    </li>
  );
}

function Choices({
  onRename,
  onDelete,
  onLeave,
}: {
  onRename: () => void;
  onDelete: () => void;
  onLeave: () => void;
}) {
  const first = useRef<HTMLButtonElement>(null);
  useEffect(() => first.current?.focus(), []);
  return (
    <div
      className="flex gap-1 px-1.5 pb-1.5"
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        event.preventDefault();
        onLeave();
      }}
    >
      <button ref={first} type="button" className="btn flex-1" onClick={onRename}>
        <Icon name="pen" size={15} /> Rename
      </button>
      <button type="button" className="btn flex-1 text-bad" onClick={onDelete}>
        <Icon name="trash" size={15} /> Delete
      </button>
    </div>
  );
}

const STATUSES: Partial<Record<ThreadSummary["status"], { label: string; look: string }>> = {
  busy: { label: "Answering", look: "bg-accent animate-pulse" },
  interrupted: { label: "Waits for you", look: "bg-warn" },
  error: { label: "Ended with an error", look: "bg-bad" },
};

function Status({ status }: { status: ThreadSummary["status"] }): ReactNode {
  const shown = STATUSES[status];
  if (!shown) return null;
  return (
    <span className={classes("size-2 flex-none rounded-full", shown.look)} title={shown.label}>
      <span className="sr-only">{shown.label}</span>
    </span>
  );
}

function ExcerptLine({ excerpt }: { excerpt: Excerpt }) {
  return (
    <span className="line-clamp-2 text-[13px] text-text-soft">
      {excerpt.before}
      <mark className="rounded-sm bg-accent-soft text-accent-text">{excerpt.match}</mark>
      {excerpt.after}
    </span>
  );
}

/** Gives an element the focus after the next rendering, in which it may have been made anew. */
function useRefocus<T extends HTMLElement>(): [React.RefObject<T | null>, () => void] {
  const ref = useRef<T>(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (turn > 0) ref.current?.focus();
  }, [turn]);
  return [ref, () => setTurn((before) => before + 1)];
}
