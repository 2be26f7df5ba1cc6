/** A person's filters as the server's query. Pure. */

import type { FeedbackQuery } from "../api/types";

/** Days are those of the place where the person is; the last one is included. */
export function asked(query: FeedbackQuery): FeedbackQuery {
  const moment = (day: string | undefined, later: number) => {
    if (!day) return undefined;
    const midnight = new Date(`${day}T00:00:00`);
    midnight.setDate(midnight.getDate() + later);
    return midnight.toISOString();
  };
  return { ...query, since: moment(query.since, 0), until: moment(query.until, 1) };
}
