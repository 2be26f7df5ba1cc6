/** Threads under their headings. Tab reaches one row; the arrow keys, Home and End go through them. */

import { type KeyboardEvent, useId, useState } from "react";

import { route } from "../state/route";
import { useStore } from "../state/store";
import type { Group } from "./days";
import type { Excerpt } from "./find";
import type { ThreadSummary } from "./summaries";
import { type RowActions, ThreadRow } from "./ThreadRow";

interface GroupsProps {
  groups: Group<ThreadSummary>[];
  excerpts?: ReadonlyMap<string, Excerpt | null>;
  actions: RowActions;
}

export function ThreadGroups({ groups, excerpts, actions }: GroupsProps) {
  const shown = useStore(route);
  const current = shown.page === "chat" ? shown.threadId : null;
  const [reached, setReached] = useState<string | null>(null);
  const ids = groups.flatMap((group) => group.items.map((thread) => thread.id));
  const reachable = [reached, current].find((id) => id !== null && ids.includes(id)) ?? ids[0];
  const id = useId();
  return (
    <div onKeyDown={moveFocus}>
      {groups.map((group, index) => (
        <section key={group.label} aria-labelledby={`${id}-${index}`}>
          <h3 id={`${id}-${index}`} className="px-2.5 pt-3 pb-1 text-[12.5px] font-semibold text-text-soft">
            {group.label}
          </h3>
          <ul>
            {group.items.map((thread) => (
              <ThreadRow
                key={thread.id}
                thread={thread}
                current={thread.id === current}
                reachable={thread.id === reachable}
                excerpt={excerpts?.get(thread.id) ?? null}
                onReach={() => setReached(thread.id)}
                {...actions}
              />
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}

function moveFocus(event: KeyboardEvent<HTMLElement>): void {
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>("[data-thread-row]")];
  const at = rows.indexOf(event.target as HTMLElement);
  if (at < 0) return;
  const targets: Record<string, number> = {
    ArrowDown: at + 1,
    ArrowUp: at - 1,
    Home: 0,
    End: rows.length - 1,
  };
  const row = rows[targets[event.key] ?? -1];
  if (!row) return;
  event.preventDefault();
  row.focus();
}
