/** Steps through the branches of a message: edits of a person's message, or answers to it. */

import { IconButton } from "../ui";
import { useChat, useInnerMessages } from "./context";
import type { Versions } from "./history";
import type { Conversation } from "./useConversation";

export function VersionPicker({ of }: { of: "message" | "answer" }) {
  const { conversation } = useChat();
  const inner = useInnerMessages();
  const versions = versionsOf(
    conversation,
    inner.map((message) => message.id),
  );
  if (!versions) return null;
  const { shown, snapshots } = versions;
  const to = (step: -1 | 1) => {
    const snapshot = snapshots[shown + step];
    return {
      disabled: !snapshot || conversation.running,
      onClick: () => snapshot && conversation.show(snapshot),
    };
  };
  return (
    <div role="group" aria-label={`Versions of this ${of}`} className="version-picker">
      <IconButton icon="left" label={`Previous version of this ${of}`} size={15} {...to(-1)} />
      <span
        className="text-[13px] tabular-nums"
        aria-label={`Version ${shown + 1} of ${snapshots.length}`}
      >
        {shown + 1}/{snapshots.length}
      </span>
      <IconButton icon="right" label={`Next version of this ${of}`} size={15} {...to(1)} />
    </div>
  );
}

/** An answer of several messages may branch at any of them; the first that does is told. */
function versionsOf({ tree, messages }: Conversation, ids: string[]): Versions | null {
  for (const id of ids) {
    const index = messages.findIndex((message) => message.id === id);
    const versions = index < 0 ? null : tree.versions(messages, index);
    if (versions) return versions;
  }
  return null;
}
