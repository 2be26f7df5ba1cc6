/** Sorts moments into the days that a list is headed by. Knows calendars, not threads. */

const DAY_MS = 24 * 60 * 60 * 1000;

function midnight(moment: Date): number {
  return new Date(moment.getFullYear(), moment.getMonth(), moment.getDate()).getTime();
}

/** Whole calendar days from `moment` to `now`; hours do not count, nor does summer time. */
function daysAgo(moment: Date, now: Date): number {
  return Math.round((midnight(now) - midnight(moment)) / DAY_MS);
}

/** What a list calls the day of `moment`: near days by name, others by month. */
export function dayLabel(moment: Date, now: Date): string {
  const days = daysAgo(moment, now);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days < 7) return moment.toLocaleDateString("en", { weekday: "long" });
  if (days < 30) return "Last 30 days";
  return moment.toLocaleDateString("en", { month: "long", year: "numeric" });
}

export interface Group<T> {
  label: string;
  items: T[];
}

/** Neighbours of one day together, in the order that they come in. */
export function groupByDay<T>(items: readonly T[], when: (item: T) => Date, now: Date): Group<T>[] {
  const groups: Group<T>[] = [];
  for (const item of items) {
    const label = dayLabel(when(item), now);
    const last = groups.at(-1);
    if (last?.label === label) last.items.push(item);
    else groups.push({ label, items: [item] });
  }
  return groups;
}
