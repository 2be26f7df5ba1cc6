/** Ratings and the log of answers. Reading the log needs the admin role. */

import { getJson, request, sendJson, withQuery } from "./http";
import type { FeedbackQuery, FeedbackStats, LoggedAnswer, NewRating, Rating } from "./types";

export type ExportFormat = "jsonl" | "markdown" | "dpo" | "kto" | "ppo" | "trlx" | "sft" | "reward";

/** Raises: ApiError 404 where the log has no such answer, 409 where it is off. */
export const rate = (rating: NewRating): Promise<Rating> =>
  sendJson<Rating>("POST", "/v1/feedback", { ...rating, source: "ui" });

export async function ratingsOf(threadId: string): Promise<Rating[]> {
  const path = withQuery("/v1/feedback/ratings", { thread_id: threadId });
  return (await getJson<{ data: Rating[] }>(path)).data;
}

export interface AnswersPage {
  data: LoggedAnswer[];
  next_cursor: string | null;
}

export const searchAnswers = (query: FeedbackQuery): Promise<AnswersPage> =>
  getJson<AnswersPage>(withQuery("/v1/feedback/answers", query));

export const getStats = (query: FeedbackQuery = {}): Promise<FeedbackStats> =>
  getJson<FeedbackStats>(withQuery("/v1/feedback/stats", query));

/** All logs that a query finds, as a file. Rows to train on can leave the thinking out. */
export async function exportLogs(
  format: ExportFormat,
  thinking: "keep" | "strip" = "keep",
  query: FeedbackQuery = {},
): Promise<Blob> {
  return (await request(withQuery("/v1/feedback/export", { format, thinking, ...query }))).blob();
}
