/** A part of a panel, under its heading. */

import { type ReactNode, useId } from "react";

interface SectionProps {
  title: string;
  /** A button beside the heading. */
  action?: ReactNode;
  children: ReactNode;
}

export function Section({ title, action, children }: SectionProps) {
  const id = useId();
  return (
    <section aria-labelledby={id} className="border-b py-5 first:pt-1 last:border-b-0">
      <div className="mb-3 flex min-h-[36px] items-center justify-between gap-3">
        <h3 id={id} className="text-[15px] font-semibold">
          {title}
        </h3>
        {action}
      </div>
      <div className="flex flex-col gap-4">{children}</div>
    </section>
  );
}
