/** KaTeX with its style and fonts. */

import "katex/dist/katex.min.css";

import rehypeKatex from "rehype-katex";
import remarkMath from "remark-math";

import type { MathPlugins } from "./math";

export const MATH: MathPlugins = {
  remark: [remarkMath, { singleDollarTextMath: true }],
  rehype: [rehypeKatex, { throwOnError: false, errorColor: "currentColor", trust: false }],
};
