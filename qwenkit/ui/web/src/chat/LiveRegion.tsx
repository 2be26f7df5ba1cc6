/** Reads answers out as they come, sentence by sentence, to those who don't see the page. */

import { useEffect, useRef, useState } from "react";

import { textOf } from "../api/langgraph";
import { useChat } from "./context";
import { nextToRead } from "./reading";

const EVERY_MS = 1200;
/** After this, what was read out is only in the conversation. */
const KEPT_MS = 5000;

export function LiveRegion() {
  const { messages, running, approvals } = useChat().conversation;
  const [said, setSaid] = useState("");
  const read = useRef({ id: "", length: 0 });
  const latest = useRef({ messages, running });
  latest.current = { messages, running };

  useEffect(() => {
    const tell = () => {
      const message = latest.current.messages.findLast((each) => each.type === "ai");
      if (!message) return;
      const before = read.current.id === message.id ? read.current.length : 0;
      const next = nextToRead(textOf(message), before, !latest.current.running);
      read.current = { id: message.id, length: before + next.length };
      if (next.trim()) setSaid(next.trim());
    };
    if (!running) return;
    setSaid("The model is answering.");
    const timer = setInterval(tell, EVERY_MS);
    return () => {
      clearInterval(timer);
      tell();
    };
  }, [running]);

  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => setSaid(""), KEPT_MS);
    return () => clearTimeout(timer);
  }, [said]);

  const asks = approvals.map((each) => each.request.name).join(", ");
  return (
    <div className="sr-only" role="status" aria-live="polite">
      {asks && !running ? `A tool waits for your approval: ${asks}` : said}
    </div>
  );
}
