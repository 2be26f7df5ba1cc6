/** The text of an answer: Markdown, which is loaded after the page; until then the text as it is.
 */

import { type TextMessagePartProps } from "@assistant-ui/react";
import { lazy, Suspense } from "react";

const load = () => import("./text/Markdown");
const Markdown = lazy(async () => ({ default: (await load()).Markdown }));

/** Lets the browser fetch what shows Markdown while nothing else happens. */
export function prepareMarkdown(): void {
  void load();
}

export function AnswerText({ text }: TextMessagePartProps) {
  return (
    <Suspense fallback={<p className="whitespace-pre-wrap">{text}</p>}>
      <Markdown />
    </Suspense>
  );
}
