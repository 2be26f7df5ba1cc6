/** Markdown as answers have it: tables, code, and mathematics where there is any. Loads no picture
 * from anywhere.
 */

import "../../styles/prose.css";

import { useMessagePartText } from "@assistant-ui/react";
import {
  MarkdownTextPrimitive,
  normalizeMathDelimiters,
  type MarkdownTextPrimitiveProps,
} from "@assistant-ui/react-markdown";
import type { ComponentProps } from "react";
import remarkGfm from "remark-gfm";

import { CodeHeader, HighlightedCode } from "./Code";
import { displayMath, hasMath, useMath } from "./math";

type Components = NonNullable<MarkdownTextPrimitiveProps["components"]>;

const COMPONENTS: Components = {
  a: ({ node: _node, ...rest }) => <a {...rest} target="_blank" rel="noopener noreferrer" />,
  img: ({ src, alt }) => (
    <a href={typeof src === "string" ? src : undefined} target="_blank" rel="noopener noreferrer">
      {alt || "picture"}
    </a>
  ),
  input: ({ node: _node, ...rest }) => (
    <input {...rest} aria-label={rest.checked ? "done" : "to do"} />
  ),
  table: Table,
  SyntaxHighlighter: HighlightedCode,
  CodeHeader,
};

const prepareMath = (text: string) => displayMath(normalizeMathDelimiters(text));

export function Markdown() {
  const { text } = useMessagePartText();
  const math = useMath(hasMath(text));
  return (
    <MarkdownTextPrimitive
      key={math ? "math" : "plain"}
      className="prose"
      smooth={false}
      defer
      components={COMPONENTS}
      preprocess={math ? prepareMath : undefined}
      remarkPlugins={math ? [remarkGfm, math.remark] : [remarkGfm]}
      rehypePlugins={math ? [math.rehype] : []}
    />
  );
}

function Table({ node: _node, ...rest }: ComponentProps<"table"> & { node?: unknown }) {
  return (
    <div className="table-frame" tabIndex={0} role="region" aria-label="Table">
      <table {...rest} />
    </div>
  );
}
