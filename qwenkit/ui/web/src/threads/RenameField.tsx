/** A thread's title being written. Enter and leaving the field keep it, Escape does not. */

import { useRef, useState } from "react";

interface RenameProps {
  title: string;
  /** Empty is the first message's title. */
  onSave: (title: string) => void;
  onLeave: () => void;
}

export function RenameField({ title, onSave, onLeave }: RenameProps) {
  const [text, setText] = useState(title);
  const settled = useRef(false);
  const settle = (keep: boolean) => {
    if (settled.current) return;
    settled.current = true;
    if (keep && text.trim() !== title) onSave(text.trim());
    else onLeave();
  };
  return (
    <input
      className="field"
      aria-label="Name of the conversation"
      value={text}
      maxLength={200}
      autoFocus
      onFocus={(event) => event.target.select()}
      onChange={(event) => setText(event.target.value)}
      onBlur={() => settle(true)}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== "Escape") return;
        event.preventDefault();
        event.stopPropagation();
        settle(event.key === "Enter");
      }}
    />
  );
}
