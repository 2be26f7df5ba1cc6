/** A person's message, which can be written anew. */

import {
  AuiIf,
  ComposerPrimitive,
  MessagePrimitive,
  useAui,
  useAuiState,
} from "@assistant-ui/react";

import { Button, IconButton } from "../ui";
import { useChat, useInnerMessages } from "./context";
import { CopyButton } from "./CopyButton";
import { VersionPicker } from "./VersionPicker";

export function UserMessage() {
  const editing = useAuiState((state) => state.message.composer.isEditing);
  return (
    <MessagePrimitive.Root className="user-message" data-role="user">
      <h2 className="sr-only">You</h2>
      {editing ? <Editor /> : <Written />}
    </MessagePrimitive.Root>
  );
}

function Written() {
  const aui = useAui();
  const { running } = useChat().conversation;
  const first = useInnerMessages()[0];
  return (
    <>
      <div className="user-bubble">
        <MessagePrimitive.Parts components={{ Text: PlainText }} />
      </div>
      <div className="actions justify-end">
        <VersionPicker of="message" />
        <CopyButton label="Copy message" text={() => aui.message.getCopyText()} />
        {first && (
          <IconButton
            icon="edit"
            label="Edit message"
            size={16}
            disabled={running}
            onClick={() => aui.message.composer().beginEdit()}
          />
        )}
      </div>
    </>
  );
}

function PlainText({ text }: { text: string }) {
  return <p className="break-words whitespace-pre-wrap">{text}</p>;
}

function Editor() {
  return (
    <ComposerPrimitive.Root className="user-editor">
      <ComposerPrimitive.Input
        className="composer-input"
        aria-label="Edit message text"
        autoFocus
        maxRows={14}
      />
      <div className="flex justify-end gap-2">
        <ComposerPrimitive.Cancel asChild>
          <Button>Cancel</Button>
        </ComposerPrimitive.Cancel>
        <AuiIf condition={(state) => !state.thread.isRunning}>
          <ComposerPrimitive.Send asChild>
            <Button kind="primary">Save and send</Button>
          </ComposerPrimitive.Send>
        </AuiIf>
      </div>
    </ComposerPrimitive.Root>
  );
}
