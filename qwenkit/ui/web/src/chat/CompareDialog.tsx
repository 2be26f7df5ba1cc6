/** Asks by which model the second answer of a comparison is written. */

import { useState } from "react";

import { models } from "../state/models";
import { settings } from "../state/settings";
import { useStore } from "../state/store";
import { Button, Dialog, SelectField } from "../ui";
import type { ChatMessage } from "./chunks";
import { useChat } from "./context";

export function CompareDialog({ answer, onClose }: { answer: ChatMessage; onClose: () => void }) {
  const { conversation } = useChat();
  const served = useStore(models);
  const chosen = useStore(settings, ({ model }) => model);
  const writer = answer.response_metadata?.model_name;
  const other = served.find(({ id }) => id !== writer)?.id;
  const [model, setModel] = useState(other ?? chosen ?? served[0]?.id ?? "");
  const start = () => {
    onClose();
    void conversation.compare(answer.id, model || "Second answer", model || null);
  };
  return (
    <Dialog
      title="Compare answers"
      onClose={onClose}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" onClick={start}>
            Write a second answer
          </Button>
        </>
      }
    >
      <SelectField
        label="Second answer by"
        hint="Both answers are shown side by side, and you choose between them."
        value={model}
        onChange={(event) => setModel(event.target.value)}
      >
        {served.map(({ id, parent }) => (
          <option key={id} value={id}>
            {parent ? `${id} (adapter)` : id}
          </option>
        ))}
      </SelectField>
    </Dialog>
  );
}
