/** What went wrong with the last answer, and how to go on. */

import { Button, Note } from "../ui";
import { useChat } from "./context";

export function RunProblem() {
  const { conversation } = useChat();
  const { error, running, messages } = conversation;
  if (running) return null;
  const last = messages.at(-1);
  const unanswered = last?.type === "human" || last?.type === "tool";
  if (!error && !unanswered) return null;
  const act = unanswered ? conversation.goOn : conversation.reload;
  const retry = <Button onClick={() => void act()}>Try again</Button>;
  if (error) {
    return (
      <Note kind="bad" action={retry}>
        {error}
      </Note>
    );
  }
  return (
    <Note kind="warn" action={<Button onClick={() => void act()}>Answer now</Button>}>
      This message has not been answered.
    </Note>
  );
}
