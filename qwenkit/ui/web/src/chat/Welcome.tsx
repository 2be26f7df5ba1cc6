/** What is shown before the first message. */

import { ThreadPrimitive } from "@assistant-ui/react";

const SUGGESTIONS = [
  "What can you do?",
  "What time is it?",
  "What is 17 * 23?",
  "How do I load an adapter?",
];

export function Welcome() {
  return (
    <div className="welcome">
      <h1 className="text-[26px] font-semibold tracking-tight">What would you like to know?</h1>
      <p className="mt-1 text-text-soft">
        The model runs on this server. It can think first and use tools.
      </p>
      <div className="mt-6 grid gap-2 sm:grid-cols-2">
        {SUGGESTIONS.map((prompt) => (
          <ThreadPrimitive.Suggestion key={prompt} prompt={prompt} send className="suggestion">
            {prompt}
          </ThreadPrimitive.Suggestion>
        ))}
      </div>
    </div>
  );
}
