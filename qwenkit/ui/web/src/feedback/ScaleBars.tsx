/** How many answers got each grade from 1 to 5. */

import { boxOf, ValueAxis } from "./chart/Axes";
import { Figure } from "./chart/Figure";
import { countTicks, linear } from "./chart/scale";

const GRADES = ["1", "2", "3", "4", "5"];
const HEIGHT = 200;

export function ScaleBars({ scale }: { scale: Record<string, number> }) {
  const n = (grade: string) => scale[grade] ?? 0;
  const graded = GRADES.some((grade) => n(grade) > 0);
  return (
    <Figure
      title="Grades"
      about="Ratings on the scale from 1 to 5."
      empty={graded ? null : "No grades yet."}
      table={{ columns: ["Grade", "Ratings"], rows: GRADES.map((grade) => [grade, n(grade)]) }}
    >
      {(width) => <Chart n={n} width={width} />}
    </Figure>
  );
}

function Chart({ n, width }: { n: (grade: string) => number; width: number }) {
  const box = boxOf(width, HEIGHT);
  const ticks = countTicks(Math.max(...GRADES.map(n)));
  const y = linear([0, ticks.at(-1) ?? 1], [box.bottom, box.top]);
  const step = (box.right - box.left) / GRADES.length;
  const bar = Math.min(56, step * 0.6);
  const told = GRADES.map((grade) => `${n(grade)} of ${grade}`).join(", ");
  return (
    <svg width={width} height={HEIGHT} role="img" aria-label={`Bars: ${told}`}>
      <ValueAxis box={box} ticks={ticks} y={y} />
      {GRADES.map((grade, index) => {
        const x = box.left + (index + 0.5) * step;
        return (
          <g key={grade}>
            <rect
              className="chart-accent"
              x={x - bar / 2}
              width={bar}
              y={y(n(grade))}
              height={box.bottom - y(n(grade))}
              rx={3}
            >
              <title>
                {grade}: {n(grade)}
              </title>
            </rect>
            <text className="chart-label" x={x} y={box.bottom + 18} textAnchor="middle">
              {grade}
            </text>
          </g>
        );
      })}
    </svg>
  );
}
