/** A chart with its title and the same numbers as a table. */

import { type ReactNode, useId, useState } from "react";

import { Button } from "../../ui";
import { useWidth } from "./width";

export interface Table {
  columns: string[];
  rows: (string | number)[][];
}

interface FigureProps {
  title: string;
  about: string;
  table: Table;
  /** What stands there when there is nothing to draw. */
  empty?: string | null;
  children: (width: number) => ReactNode;
}

export function Figure({ title, about, table, empty, children }: FigureProps) {
  const [asTable, setAsTable] = useState(false);
  const [ref, width] = useWidth<HTMLDivElement>();
  const id = useId();
  return (
    <section className="card min-w-0 p-4" aria-labelledby={id}>
      <div className="flex items-start justify-between gap-3">
        <div>
          <h2 id={id} className="text-[15px] font-semibold">
            {title}
          </h2>
          <p className="hint mt-0.5">{about}</p>
        </div>
        {!empty && (
          <Button
            className="-mt-1 -mr-2 text-accent-text"
            aria-label={asTable ? `${title} as a chart` : `${title} as a table`}
            onClick={() => setAsTable(!asTable)}
          >
            {asTable ? "Chart" : "Table"}
          </Button>
        )}
      </div>
      <div ref={ref} className="mt-3 min-w-0">
        {empty && <p className="py-6 text-center text-[14px] text-text-soft">{empty}</p>}
        {!empty && asTable && <TableOf title={title} table={table} />}
        {!empty && !asTable && width > 0 && children(width)}
      </div>
    </section>
  );
}

function TableOf({ title, table }: { title: string; table: Table }) {
  return (
    <div className="max-h-80 overflow-auto" tabIndex={0} role="group" aria-label={title}>
      <table className="numbers">
        <thead>
          <tr>
            {table.columns.map((column) => (
              <th key={column} scope="col">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row) => (
            <tr key={row.join(" ")}>
              {row.map((cell, index) =>
                index === 0 ? (
                  <th key={table.columns[index]} scope="row">
                    {cell}
                  </th>
                ) : (
                  <td key={table.columns[index]}>{cell}</td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
