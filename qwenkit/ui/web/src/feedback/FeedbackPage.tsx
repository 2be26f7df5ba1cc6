/** What people thought of the answers: counts, agreement, and how adapters fare. Needs the admin role. */

import { useState } from "react";

import { getStats } from "../api/feedback";
import type { FeedbackStats } from "../api/types";
import { AdminKeyButton } from "../key/AdminKeyButton";
import { me } from "../state/me";
import { openDialog } from "../state/panels";
import { useStore } from "../state/store";
import { Button, Empty, IconButton, Note, Spinner, useAsync } from "../ui";
import { Agreement } from "./Agreement";
import { daysBefore } from "./chart/calendar";
import { DailyRatings } from "./DailyRatings";
import { Raters } from "./Raters";
import { ScaleBars } from "./ScaleBars";
import { Tiles } from "./Tiles";
import { WinRates } from "./WinRates";

const RANGES = [
  { label: "All time", days: null },
  { label: "Last 90 days", days: 90 },
  { label: "Last 30 days", days: 30 },
  { label: "Last 7 days", days: 7 },
];

export function FeedbackPage() {
  const known = useStore(me);
  return (
    <div className="min-h-0 flex-1 overflow-y-auto" tabIndex={0} role="group" aria-label="Feedback">
      <div className="mx-auto max-w-5xl px-4 pt-2 pb-12 sm:px-6">
        {!known && <Spinner label="Loading" />}
        {known && !known.features.feedback && (
          <Empty icon="chart" title="This server keeps no log">
            Set LOG_ANSWERS to full or metadata and restart it.
          </Empty>
        )}
        {known?.features.feedback && known.role !== "admin" && (
          <Note kind="warn" action={<AdminKeyButton />}>
            Reading everybody’s ratings needs an admin’s key.
          </Note>
        )}
        {known?.features.feedback && known.role === "admin" && <Stats />}
      </div>
    </div>
  );
}

function Stats() {
  const [days, setDays] = useState<number | null>(null);
  const stats = useAsync(
    () => getStats(days === null ? {} : { since: daysBefore(days, new Date()) }),
    days,
  );
  return (
    <>
      <div className="mb-4 flex flex-wrap items-center gap-2">
        <h1 className="mr-auto text-[20px] font-semibold">Feedback</h1>
        <select
          className="field w-auto"
          aria-label="Time"
          value={days ?? ""}
          onChange={(event) => setDays(event.target.value ? Number(event.target.value) : null)}
        >
          {RANGES.map((range) => (
            <option key={range.label} value={range.days ?? ""}>
              {range.label}
            </option>
          ))}
        </select>
        <IconButton icon="retry" label="Count again" disabled={stats.loading} onClick={stats.reload} />
        <Button kind="outline" icon="download" onClick={() => openDialog("export")}>
          Export
        </Button>
      </div>
      {stats.error && (
        <Note kind="bad" action={<Button onClick={stats.reload}>Try again</Button>}>
          {stats.error}
        </Note>
      )}
      {!stats.data && stats.loading && <Spinner label="Counting" />}
      {stats.data && <Charts stats={stats.data} />}
    </>
  );
}

function Charts({ stats }: { stats: FeedbackStats }) {
  if (stats.n_answers === 0) {
    return (
      <Empty icon="chart" title="No answers in this time">
        Ask something, then rate the answer with a thumb.
      </Empty>
    );
  }
  return (
    <div className="flex flex-col gap-3">
      <Tiles stats={stats} />
      <DailyRatings days={stats.days} />
      <div className="grid gap-3 lg:grid-cols-2">
        <Agreement days={stats.agreement} />
        <ScaleBars scale={stats.scale} />
      </div>
      <WinRates adapters={stats.adapters} />
      <Raters raters={stats.raters} />
    </div>
  );
}
