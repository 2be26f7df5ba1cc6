/** The text of an answer: Markdown, which is loaded after the page. Until then, and where Markdown
 * fails, the text as it is.
 */

import { type TextMessagePartProps } from "@assistant-ui/react";
import { lazy, Suspense } from "react";

import { ErrorBoundary } from "../ui";
import { canBeMarkdown } from "./text/limits";

const load = () => import("./text/Markdown");
const Markdown = lazy(async () => ({ default: (await load()).Markdown }));

/** Lets the browser fetch what shows Markdown while nothing else happens. */
export function prepareMarkdown(): void {
  void load();
}

export function AnswerText({ text }: TextMessagePartProps) {
  const plain = <p className="break-words whitespace-pre-wrap">{text}</p>;
  if (!canBeMarkdown(text)) return plain;
  return (
    <ErrorBoundary fallback={plain}>
      <Suspense fallback={plain}>
        <Markdown />
      </Suspense>
    </ErrorBoundary>
  );
}
