/** Short messages inside the page: what went wrong, what is still loading, what is not there yet.
 */

import type { ReactNode } from "react";

import { Icon, type IconName } from "./Icon";

const LOOKS = {
  bad: "bg-bad-soft text-bad",
  warn: "bg-warn-soft text-warn",
  good: "bg-good-soft text-good",
};

interface NoteProps {
  kind: keyof typeof LOOKS;
  children: ReactNode;
  /** What to do about it. */
  action?: ReactNode;
}

export function Note({ kind, children, action }: NoteProps) {
  return (
    <div
      role={kind === "bad" ? "alert" : "status"}
      className={`flex flex-wrap items-center gap-x-3 gap-y-1 rounded-xl px-3.5 py-2.5 text-[14px] ${LOOKS[kind]}`}
    >
      <Icon name={kind === "good" ? "check" : "warn"} size={16} />
      <div className="min-w-0 flex-1 basis-44 break-words">{children}</div>
      {action}
    </div>
  );
}

export function Spinner({ label }: { label: string }) {
  return (
    <div
      role="status"
      className="flex items-center justify-center gap-2.5 p-4 text-[14px] text-text-soft"
    >
      <span className="size-4 animate-spin rounded-full border-2 border-line border-t-accent" />
      {label}
    </div>
  );
}

export function Empty({
  icon,
  title,
  children,
}: {
  icon: IconName;
  title: string;
  children?: ReactNode;
}) {
  return (
    <div className="flex flex-col items-center gap-1.5 px-6 py-10 text-center text-text-soft">
      <Icon name={icon} size={26} />
      <p className="font-medium text-text">{title}</p>
      {children && <div className="max-w-sm text-[14px]">{children}</div>}
    </div>
  );
}
