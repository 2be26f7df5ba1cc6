/** Saves this conversation, or everything in the log, as a file. */

import { useId, useState } from "react";

import { me } from "../state/me";
import { route } from "../state/route";
import { useStore } from "../state/store";
import { Dialog } from "../ui";
import { AllLogs } from "./AllLogs";
import { ThisChat } from "./ThisChat";

type Tab = "chat" | "logs";

export function ExportDialog({ onClose }: { onClose: () => void }) {
  const hasChat = useStore(route, (shown) => shown.page === "chat" && shown.threadId !== null);
  const hasLog = useStore(me, (known) => known?.features.feedback ?? false);
  const [tab, setTab] = useState<Tab>(hasChat || !hasLog ? "chat" : "logs");
  return (
    <Dialog title="Export" onClose={onClose} width="34rem">
      {hasLog && <Tabs tab={tab} onChange={setTab} />}
      {tab === "chat" ? <ThisChat onDone={onClose} /> : <AllLogs onDone={onClose} />}
    </Dialog>
  );
}

function Tabs({ tab, onChange }: { tab: Tab; onChange: (tab: Tab) => void }) {
  const name = useId();
  const tabs: [Tab, string][] = [
    ["chat", "This conversation"],
    ["logs", "All logs"],
  ];
  return (
    <div role="radiogroup" aria-label="What to export" className="segments mb-4">
      {tabs.map(([value, label]) => (
        <label key={value}>
          <input
            type="radio"
            className="sr-only"
            name={name}
            checked={tab === value}
            onChange={() => onChange(value)}
          />
          <span>{label}</span>
        </label>
      ))}
    </div>
  );
}
