/** The shown conversation as Markdown, JSON lines or preference pairs. */

import { useState } from "react";

import { describeError } from "../api/http";
import { route } from "../state/route";
import { useStore } from "../state/store";
import { showToast } from "../state/toasts";
import { Button, Empty, Note, Switch } from "../ui";
import { download } from "./download";
import { FormatChoice, type FormatOption } from "./FormatChoice";
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
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  if (threadId === null) {
    return (
      <Empty icon="chat" title="Nothing to export yet">
        Open a conversation, or write something.
      </Empty>
    );
  }

  const save = async () => {
    setBusy(true);
    setError(null);
    try {
      const file = await exportChat(format, threadId, thinking);
      if (file.content.size === 0) {
        setError(emptyReason(format));
      } else {
        download(file.name, file.content);
        showToast(`Saved ${file.name}: ${file.told}`);
        onDone();
      }
    } catch (failure) {
      setError(describeError(failure));
    }
    setBusy(false);
  };

  return (
    <div className="flex flex-col gap-4">
      <FormatChoice options={FORMATS} chosen={format} onChange={setFormat} />
      <Switch label="With the model’s thinking" checked={thinking} onChange={setThinking} />
      {error && <Note kind="bad">{error}</Note>}
      <div className="sticky -bottom-5 -mb-5 bg-raised pt-1 pb-5">
        <Button kind="primary" className="w-full" icon="download" disabled={busy} onClick={() => void save()}>
          {busy ? "Making the file…" : "Save this conversation"}
        </Button>
      </div>
    </div>
  );
}

function emptyReason(format: ChatFormat): string {
  if (format === "dpo") {
    return "No pairs yet: regenerate an answer and rate both, compare two, or correct one.";
  }
  return "Nothing is saved of this conversation yet.";
}
