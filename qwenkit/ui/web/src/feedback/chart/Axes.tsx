/** Horizontal lines with their values, and days below them. */

import { shortDay } from "./calendar";
import { type Scale, thinned } from "./scale";

export interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Room for labels around what is drawn. */
export const boxOf = (width: number, height: number): Box => ({
  left: 46,
  right: width - 8,
  top: 8,
  bottom: height - 26,
});

interface ValueAxisProps {
  box: Box;
  ticks: readonly number[];
  y: Scale;
  label?: (tick: number) => string;
}

export function ValueAxis({ box, ticks, y, label = String }: ValueAxisProps) {
  return (
    <g>
      {ticks.map((tick) => (
        <g key={tick}>
          <line className="chart-line" x1={box.left} x2={box.right} y1={y(tick)} y2={y(tick)} />
          <text className="chart-label" x={box.left - 8} y={y(tick)} dy="0.35em" textAnchor="end">
            {label(tick)}
          </text>
        </g>
      ))}
    </g>
  );
}

interface DayAxisProps {
  box: Box;
  days: readonly string[];
  x: (day: string) => number;
}

const LABEL_WIDTH = 64;

export function DayAxis({ box, days, x }: DayAxisProps) {
  const shown = thinned(days, Math.floor((box.right - box.left) / LABEL_WIDTH));
  return (
    <g>
      {shown.map((day) => (
        <text
          key={day}
          className="chart-label"
          x={Math.min(x(day), box.right - 18)}
          y={box.bottom + 18}
          textAnchor="middle"
        >
          {shortDay(day)}
        </text>
      ))}
    </g>
  );
}

export function Legend({ entries }: { entries: readonly { label: string; look: string }[] }) {
  return (
    <ul className="mt-2 flex flex-wrap gap-x-4 gap-y-1 text-[13px] text-text-soft">
      {entries.map(({ label, look }) => (
        <li key={label} className="flex items-center gap-1.5">
          <svg width="12" height="12" aria-hidden="true">
            <rect width="12" height="12" rx="3" className={look} />
          </svg>
          {label}
        </li>
      ))}
    </ul>
  );
}
