/** Asks in place before something is done that can't be undone. Escape is no. */

import { type ReactNode, useEffect, useId, useRef } from "react";

import { Button } from "./Button";

interface QuestionProps {
  children: ReactNode;
  yes: string;
  no?: string;
  busy?: boolean;
  onYes: () => void;
  onNo: () => void;
}

export function Question({ children, yes, no = "Keep", busy, onYes, onNo }: QuestionProps) {
  const id = useId();
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => frame.current?.querySelector("button")?.focus(), []);
  return (
    <div
      ref={frame}
      role="group"
      aria-labelledby={id}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.preventDefault();
        event.stopPropagation();
        onNo();
      }}
    >
      <p id={id} className="mb-1.5 text-[13px] break-words text-text-soft">
        {children}
      </p>
      <div className="flex gap-1.5">
        <Button kind="danger" className="flex-1" disabled={busy} onClick={onYes}>
          {yes}
        </Button>
        <Button kind="outline" className="flex-1" disabled={busy} onClick={onNo}>
          {no}
        </Button>
      </div>
    </div>
  );
}
