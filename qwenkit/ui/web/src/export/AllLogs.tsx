/** Everything in the log that fits some filters, in a format to read or to train on. */

import { useState } from "react";

import { type ExportFormat, exportLogs } from "../api/feedback";
import type { FeedbackQuery } from "../api/types";
import { AdminKeyButton } from "../key/AdminKeyButton";
import { me } from "../state/me";
import { useStore } from "../state/store";
import { Note, Switch } from "../ui";
import { FormatChoice, type FormatOption } from "./FormatChoice";
import { LogFilters } from "./LogFilters";
import { SaveFile } from "./SaveFile";
import { asked } from "./logQuery";

const FORMATS: FormatOption<ExportFormat>[] = [
  { format: "jsonl", label: "JSONL", about: "The log’s records as they are." },
  { format: "markdown", label: "Markdown", about: "Conversations to read." },
  { format: "dpo", label: "DPO", about: "Pairs of a better and a worse answer." },
  { format: "kto", label: "KTO", about: "Answers with a thumb up or down." },
  { format: "sft", label: "SFT", about: "Answers that people liked, to imitate." },
  { format: "reward", label: "Reward model", about: "Pairs for qwenkit finetune --method reward." },
  { format: "ppo", label: "PPO", about: "Prompts with their answers’ rewards." },
  { format: "trlx", label: "TRLx", about: "Samples and rewards." },
];

const NOTHING =
  "Nothing in the log fits: no answer, or none that was rated so that it makes a row.";

export function AllLogs({ onDone }: { onDone: () => void }) {
  const isAdmin = useStore(me, (known) => known?.role === "admin");
  const [format, setFormat] = useState<ExportFormat>("jsonl");
  const [thinking, setThinking] = useState(true);
  const [query, setQuery] = useState<FeedbackQuery>({});
  if (!isAdmin) {
    return (
      <Note kind="warn" action={<AdminKeyButton />}>
        Exporting everybody’s answers needs an admin’s key.
      </Note>
    );
  }

  const make = async () => ({
    name: nameOf(format),
    content: await exportLogs(format, thinking ? "keep" : "strip", asked(query)),
  });

  return (
    <div className="flex flex-col gap-4">
      <FormatChoice options={FORMATS} chosen={format} onChange={setFormat} />
      {format !== "jsonl" && format !== "markdown" && (
        <Switch label="With the model’s thinking" checked={thinking} onChange={setThinking} />
      )}
      <LogFilters query={query} onChange={setQuery} />
      <SaveFile label="Save all logs" make={make} emptyReason={NOTHING} onDone={onDone} />
    </div>
  );
}

function nameOf(format: ExportFormat): string {
  const day = new Date().toISOString().slice(0, 10);
  if (format === "markdown") return `qwenkit-${day}.md`;
  return format === "jsonl" ? `qwenkit-${day}.jsonl` : `qwenkit-${day}.${format}.jsonl`;
}
