/** The counts above the charts. */

import type { FeedbackStats } from "../api/types";
import { count, percent } from "./numbers";

export function Tiles({ stats }: { stats: FeedbackStats }) {
  const thumbs = stats.n_up + stats.n_down;
  const rated = stats.n_answers > 0 ? stats.n_rated / stats.n_answers : null;
  return (
    <dl className="grid grid-cols-2 gap-3 lg:grid-cols-4">
      <Tile name="Answers" value={count(stats.n_answers)} more="in the log" />
      <Tile name="Rated answers" value={count(stats.n_rated)} more={`${percent(rated)} of all`} />
      <Tile
        name="Thumbs up"
        value={thumbs > 0 ? percent(stats.n_up / thumbs) : "–"}
        more={`${count(stats.n_up)} up, ${count(stats.n_down)} down`}
      />
      <Tile
        name="Ratings"
        value={count(stats.n_ratings)}
        more={stats.n_compared === 1 ? "1 comparison" : `${count(stats.n_compared)} comparisons`}
      />
    </dl>
  );
}

function Tile({ name, value, more }: { name: string; value: string; more: string }) {
  return (
    <div className="card px-4 py-3">
      <dt className="text-[13px] text-text-soft">{name}</dt>
      <dd>
        <span className="block text-[24px] leading-9 font-semibold tabular-nums">{value}</span>
        <span className="text-[13px] text-text-soft">{more}</span>
      </dd>
    </div>
  );
}
