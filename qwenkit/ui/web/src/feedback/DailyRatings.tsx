/** Thumbs and comparisons of every day, stacked. */

import type { FeedbackStats } from "../api/types";
import { type Box, boxOf, DayAxis, Legend, ValueAxis } from "./chart/Axes";
import { calendar, shortDay } from "./chart/calendar";
import { Figure } from "./chart/Figure";
import { countTicks, linear, type Scale } from "./chart/scale";

type Day = FeedbackStats["days"][number];

const HEIGHT = 220;
const PARTS = [
  { name: "n_up", label: "Thumbs up", look: "chart-good" },
  { name: "n_down", label: "Thumbs down", look: "chart-bad" },
  { name: "n_compared", label: "Comparisons", look: "chart-accent" },
] as const;

const total = (day: Day): number => PARTS.reduce((sum, part) => sum + day[part.name], 0);

export function DailyRatings({ days }: { days: Day[] }) {
  const judged = days.some((day) => total(day) > 0);
  return (
    <Figure
      title="Ratings by day"
      about="Thumbs and comparisons that count, by the day of the answer."
      empty={judged ? null : "No thumbs and no comparisons yet."}
      table={{
        columns: ["Day", "Answers", ...PARTS.map((part) => part.label)],
        rows: days.map((day) => [day.day, day.n_answers, ...PARTS.map((part) => day[part.name])]),
      }}
    >
      {(width) => <Chart days={days} width={width} />}
    </Figure>
  );
}

function Chart({ days, width }: { days: Day[]; width: number }) {
  const box = boxOf(width, HEIGHT);
  const all = calendar(days.map((day) => day.day));
  const ticks = countTicks(Math.max(...days.map(total)));
  const y = linear([0, ticks.at(-1) ?? 1], [box.bottom, box.top]);
  const step = (box.right - box.left) / all.length;
  const bar = Math.min(28, Math.max(2, step * 0.7));
  const x = (day: string) => box.left + (all.indexOf(day) + 0.5) * step;
  return (
    <>
      <svg width={width} height={HEIGHT} role="img" aria-label={summaryOf(days)}>
        <ValueAxis box={box} ticks={ticks} y={y} />
        {days.map((day) => (
          <Bar key={day.day} day={day} x={x(day.day)} width={bar} y={y} box={box} />
        ))}
        <DayAxis box={box} days={all} x={x} />
      </svg>
      <Legend entries={PARTS} />
    </>
  );
}

interface BarProps {
  day: Day;
  x: number;
  width: number;
  y: Scale;
  box: Box;
}

function Bar({ day, x, width, y, box }: BarProps) {
  let below = 0;
  return (
    <g>
      <title>
        {shortDay(day.day)}: {PARTS.map((part) => `${part.label} ${day[part.name]}`).join(", ")}
      </title>
      {PARTS.map((part) => {
        const from = below;
        below += day[part.name];
        const height = y(from) - y(below);
        return (
          height > 0 && (
            <rect
              key={part.name}
              className={part.look}
              x={x - width / 2}
              y={y(below)}
              width={width}
              height={Math.max(1, height - 1)}
            />
          )
        );
      })}
      <rect
        x={x - width / 2}
        y={box.top}
        width={width}
        height={box.bottom - box.top}
        fill="transparent"
      />
    </g>
  );
}

function summaryOf(days: Day[]): string {
  const sums = PARTS.map((part) => {
    const n = days.reduce((sum, day) => sum + day[part.name], 0);
    return `${n} ${part.label.toLowerCase()}`;
  });
  return `Bars for ${days.length} days: ${sums.join(", ")}`;
}
