/** How often each adapter's answers were preferred, beside the model as it is. */

import type { FeedbackStats } from "../api/types";
import { Legend } from "./chart/Axes";
import { Figure } from "./chart/Figure";
import { count, decimal, percent } from "./numbers";

type Adapter = FeedbackStats["adapters"][number];

const LOOKS = [
  { label: "Wins", look: "chart-good" },
  { label: "Ties", look: "chart-neutral" },
  { label: "Losses", look: "chart-bad" },
];

const COLUMNS = [
  "Adapter",
  "Version",
  "Answers",
  "Up",
  "Down",
  "Grade",
  "Wins",
  "Ties",
  "Losses",
  "Win rate",
];

export function WinRates({ adapters }: { adapters: Adapter[] }) {
  const compared = adapters.filter((each) => each.wins + each.losses + each.ties > 0);
  return (
    <Figure
      title="Win rate by adapter"
      about="Against other adapters’ answers to the same prompt; a tie counts half."
      empty={adapters.length > 0 ? null : "No answers yet."}
      table={{
        columns: COLUMNS,
        rows: adapters.map((each) => [
          nameOf(each),
          versionOf(each),
          count(each.n_answers),
          each.n_up,
          each.n_down,
          decimal(each.mean_scale),
          each.wins,
          each.ties,
          each.losses,
          percent(each.win_rate),
        ]),
      }}
    >
      {(width) =>
        compared.length > 0 ? (
          <Bars adapters={compared} width={width} />
        ) : (
          <p className="py-6 text-center text-[14px] text-text-soft">
            No answers of two adapters to one prompt were rated yet. The table has every adapter’s thumbs.
          </p>
        )
      }
    </Figure>
  );
}

const nameOf = (each: Adapter): string => each.adapter ?? `${each.model} (no adapter)`;
const versionOf = (each: Adapter): string => each.version?.slice(0, 8) ?? "–";

function Bars({ adapters, width }: { adapters: Adapter[]; width: number }) {
  return (
    <>
      <ul className="flex flex-col gap-3">
        {adapters.map((each) => (
          <li key={`${each.model} ${each.adapter} ${each.version}`}>
            <div className="mb-1 flex items-baseline justify-between gap-3 text-[14px]">
              <span className="min-w-0 truncate">
                {nameOf(each)}{" "}
                {each.version && (
                  <span className="font-mono text-[12.5px] text-text-soft">{versionOf(each)}</span>
                )}
              </span>
              <span className="flex-none tabular-nums">
                <strong>{percent(each.win_rate)}</strong>
              </span>
            </div>
            <Bar adapter={each} width={width} />
          </li>
        ))}
      </ul>
      <Legend entries={LOOKS} />
    </>
  );
}

const BAR = 16;

function Bar({ adapter, width }: { adapter: Adapter; width: number }) {
  const parts = [adapter.wins, adapter.ties, adapter.losses];
  const all = parts.reduce((sum, n) => sum + n, 0);
  const told = `${adapter.wins} wins, ${adapter.ties} ties, ${adapter.losses} losses`;
  let left = 0;
  return (
    <svg width={width} height={BAR} role="img" aria-label={`${nameOf(adapter)}: ${told}`}>
      <title>{told}</title>
      <rect className="chart-track" width={width} height={BAR} rx={4} />
      {parts.map((n, index) => {
        const x = left;
        const share = (n / all) * width;
        left += share;
        const look = LOOKS[index];
        return (
          n > 0 &&
          look && (
            <rect
              key={look.label}
              className={look.look}
              x={x}
              width={Math.max(1, share - 1.5)}
              height={BAR}
              rx={4}
            />
          )
        );
      })}
    </svg>
  );
}
