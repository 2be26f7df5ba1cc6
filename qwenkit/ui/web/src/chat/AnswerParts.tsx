/** An answer's parts in their order. */

import { MessagePrimitive } from "@assistant-ui/react";

import { AnswerText } from "./AnswerText";
import { Thinking } from "./Thinking";
import { ToolCall } from "./ToolCall";

const COMPONENTS = {
  Text: AnswerText,
  Reasoning: Thinking,
  tools: { Fallback: ToolCall },
  Empty: Waiting,
};

export function AnswerParts() {
  return <MessagePrimitive.Parts components={COMPONENTS} />;
}

function Waiting({ status }: { status: { type: string } }) {
  if (status.type !== "running") return null;
  return (
    <p className="waiting" role="img" aria-label="Waiting for the model">
      <span />
      <span />
      <span />
    </p>
  );
}
