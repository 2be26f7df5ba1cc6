/** Blocks of code: their language, a button that copies them, and colours once these are loaded. */

import type { CodeHeaderProps, SyntaxHighlighterProps } from "@assistant-ui/react-markdown";
import { type ReactNode, useEffect, useState } from "react";

import { CopyButton } from "../CopyButton";

type Highlight = (code: string, language: string) => ReactNode;
let loaded: Highlight | null = null;

export function CodeHeader({ language, code }: CodeHeaderProps) {
  return (
    <div className="code-header">
      <span>{language && language !== "unknown" ? language : "text"}</span>
      <CopyButton label="Copy code" text={() => code} />
    </div>
  );
}

export function HighlightedCode({
  components: { Pre, Code },
  language,
  code,
}: SyntaxHighlighterProps) {
  const highlight = useHighlight();
  const text = code.replace(/\n$/, "");
  return (
    <Pre tabIndex={0} role="region" aria-label={`Code in ${language}`}>
      <Code>{highlight ? highlight(text, language) : text}</Code>
    </Pre>
  );
}

function useHighlight(): Highlight | null {
  const [highlight, setHighlight] = useState<Highlight | null>(() => loaded);
  useEffect(() => {
    if (highlight) return;
    void import("./highlight").then((found) => {
      loaded = found.highlight;
      setHighlight(() => loaded);
    });
  }, [highlight]);
  return highlight;
}
