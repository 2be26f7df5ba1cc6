/** Who rated how much. */

import type { FeedbackStats } from "../api/types";
import { count } from "./numbers";

export function Raters({ raters }: { raters: FeedbackStats["raters"] }) {
  if (raters.length === 0) return null;
  return (
    <section className="card p-4" aria-labelledby="raters">
      <h2 id="raters" className="mb-2 text-[15px] font-semibold">
        Raters
      </h2>
      <div className="max-h-72 overflow-auto" tabIndex={0} role="group" aria-label="Raters">
        <table className="numbers">
          <thead>
            <tr>
              <th scope="col">Rater</th>
              <th scope="col">Ratings</th>
            </tr>
          </thead>
          <tbody>
            {raters.map(({ rater, n_ratings }) => (
              <tr key={rater}>
                <th scope="row">{rater}</th>
                <td>{count(n_ratings)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
