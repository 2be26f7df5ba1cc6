/** Loads what typesets mathematics, once there is some. */

import { useEffect, useState } from "react";
import type { Pluggable } from "unified";

export interface MathPlugins {
  remark: Pluggable;
  rehype: Pluggable;
}

let loaded: MathPlugins | null = null;

/** `$x$`, `$$x$$`, `\(x\)` or `\[x\]`; a price is none. */
export function hasMath(text: string): boolean {
  return (
    /\$\$[^$]+\$\$|\$[^\s$](?:[^$\n]*[^\s$])?\$(?!\d)/.test(text) ||
    hasBetween(text, "\\(", "\\)") ||
    hasBetween(text, "\\[", "\\]")
  );
}

function hasBetween(text: string, open: string, close: string): boolean {
  const start = text.indexOf(open);
  return start >= 0 && text.includes(close, start + open.length + 1);
}

export function useMath(wanted: boolean): MathPlugins | null {
  const [plugins, setPlugins] = useState(loaded);
  useEffect(() => {
    if (!wanted || plugins) return;
    void import("./mathPlugins").then((found) => {
      loaded = found.MATH;
      setPlugins(loaded);
    });
  }, [wanted, plugins]);
  return wanted ? plugins : null;
}

/** Formulas between `$$` that have a line to themselves get the lines that Markdown wants for a
 * display.
 */
export function displayMath(text: string): string {
  return text.replace(/^[ \t]*\$\$([^$\n]+)\$\$[ \t]*$/gm, "$$$$\n$1\n$$$$");
}
