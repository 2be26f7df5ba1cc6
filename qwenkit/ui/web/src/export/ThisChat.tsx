/** The shown conversation as Markdown, JSON lines or preference pairs. */

import { useState } from "react";

import { route } from "../state/route";
import { useStore } from "../state/store";
import { Empty, Switch } from "../ui";
import { FormatChoice, type FormatOption } from "./FormatChoice";
import { SaveFile } from "./SaveFile";
import { type ChatFormat, exportChat } from "./chatFiles";

const FORMATS: FormatOption<ChatFormat>[] = [
  { format: "markdown", label: "Markdown", about: "What is shown, to read." },
  { format: "jsonl", label: "JSONL", about: "Every branch a line of messages, for qwenkit finetune." },
  { format: "dpo", label: "DPO", about: "Pairs of a better and a worse answer, from your ratings." },
];

export function ThisChat({ onDone }: { onDone: () => void }) {
  const threadId = useStore(route, (shown) => (shown.page === "chat" ? shown.threadId : null));
  const [format, setFormat] = useState<ChatFormat>("markdown");
  const [thinking, setThinking] = useState(true);
  if (threadId === null) {
    return (
      <Empty icon="chat" title="Nothing to export yet">
        Open a conversation, or write something.
      </Empty>
    );
  }

  return (
    <div className="flex flex-col gap-4">
      <FormatChoice options={FORMATS} chosen={format} onChange={setFormat} />
      <Switch label="With the model’s thinking" checked={thinking} onChange={setThinking} />
      <SaveFile
        label="Save this conversation"
        make={() => exportChat(format, threadId, thinking)}
        emptyReason={emptyReason(format)}
        onDone={onDone}
      />
    </div>
  );
}

function emptyReason(format: ChatFormat): string {
  if (format === "dpo") {
    return "No pairs yet: regenerate an answer and rate both, compare two, or correct one.";
  }
  return "Nothing is saved of this conversation yet.";
}
