/** How often raters who judged the same answer agreed, day by day. */

import type { FeedbackStats } from "../api/types";
import { boxOf, DayAxis, ValueAxis } from "./chart/Axes";
import { calendar, shortDay } from "./chart/calendar";
import { Figure } from "./chart/Figure";
import { linear } from "./chart/scale";
import { percent } from "./numbers";

type Day = FeedbackStats["agreement"][number];
type Measured = Day & { agreement: number };

const HEIGHT = 200;
const TICKS = [0, 0.25, 0.5, 0.75, 1];

const isMeasured = (day: Day): day is Measured => day.agreement !== null;

export function Agreement({ days }: { days: Day[] }) {
  const measured = days.filter(isMeasured);
  return (
    <Figure
      title="Agreement over time"
      about="Of the judgements that two raters share, those in which they agree."
      empty={measured.length > 0 ? null : "No answer was judged by two raters yet."}
      table={{
        columns: ["Day", "Shared", "Agreed", "Agreement"],
        rows: days.map((day) => [day.day, day.n_shared, day.n_agreed, percent(day.agreement)]),
      }}
    >
      {(width) => <Chart days={measured} width={width} />}
    </Figure>
  );
}

function Chart({ days, width }: { days: Measured[]; width: number }) {
  const box = boxOf(width, HEIGHT);
  const all = calendar(days.map((day) => day.day));
  const place = linear([0, Math.max(1, all.length - 1)], [box.left + 12, box.right - 12]);
  const x = (day: string) => (all.length === 1 ? (box.left + box.right) / 2 : place(all.indexOf(day)));
  const y = linear([0, 1], [box.bottom, box.top]);
  const path = days.map((day, index) => `${index ? "L" : "M"}${x(day.day)} ${y(day.agreement)}`);
  return (
    <svg width={width} height={HEIGHT} role="img" aria-label={summaryOf(days)}>
      <ValueAxis box={box} ticks={TICKS} y={y} label={percent} />
      <path className="chart-path" d={path.join("")} />
      {days.map((day) => (
        <circle key={day.day} className="chart-point" cx={x(day.day)} cy={y(day.agreement)} r={radiusOf(day)}>
          <title>
            {shortDay(day.day)}: {percent(day.agreement)}, {day.n_agreed} of {day.n_shared}
          </title>
        </circle>
      ))}
      <DayAxis box={box} days={all} x={x} />
    </svg>
  );
}

/** Days with more shared judgements weigh more to the eye. */
function radiusOf(day: Measured): number {
  return Math.min(8, 3 + Math.log2(day.n_shared + 1) / 2);
}

function summaryOf(days: Measured[]): string {
  const [first, last] = [days[0], days.at(-1)];
  if (!first || !last) return "Agreement over time";
  return `A line for ${days.length} days, from ${percent(first.agreement)} to ${percent(last.agreement)}`;
}
