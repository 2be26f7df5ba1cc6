/** Asks whether a tool may run: as the model wants it, with other arguments, or not at all. */

import { type FormEvent, useState } from "react";

import { changeSettings, settings } from "../state/settings";
import { Button, Icon, Note, TextArea, TextField } from "../ui";
import type { Approval, Decision } from "./approvals";
import { useDecisions } from "./useDecisions";

type Form = "edit" | "deny" | null;

export function ApprovalCard({ approval }: { approval: Approval }) {
  const { decided, decide, takeBack, waiting } = useDecisions(approval);
  const [form, setForm] = useState<Form>(null);
  const { name } = approval.request;
  const done = (decision: Decision) => {
    setForm(null);
    decide(decision);
  };
  return (
    <div className="approval" role="group" aria-label={`Approve ${name}`}>
      <p className="flex items-center gap-2 font-medium">
        <Icon name="warn" size={17} />
        <span>
          May <code>{name}</code> run?
        </span>
      </p>
      {form !== "edit" && <Arguments args={approval.request.args} />}
      {decided ? (
        <Note kind="good" action={<Button onClick={takeBack}>Change</Button>}>
          {DECIDED[decided.type]} {waiting > 0 && `${waiting} more to decide.`}
        </Note>
      ) : (
        <>
          {form === "edit" && (
            <EditForm approval={approval} onDone={done} onCancel={() => setForm(null)} />
          )}
          {form === "deny" && <DenyForm onDone={done} onCancel={() => setForm(null)} />}
          {form === null && <Choices approval={approval} onDone={done} onForm={setForm} />}
        </>
      )}
    </div>
  );
}

const DECIDED: Record<Decision["type"], string> = {
  approve: "Approved.",
  edit: "Approved with changes.",
  reject: "Denied.",
};

function Arguments({ args }: { args: Record<string, unknown> }) {
  return (
    <pre className="tool-text" tabIndex={0} role="region" aria-label="Arguments">
      {JSON.stringify(args, null, 2)}
    </pre>
  );
}

interface ChoicesProps {
  approval: Approval;
  onDone: (decision: Decision) => void;
  onForm: (form: Form) => void;
}

function Choices({ approval, onDone, onForm }: ChoicesProps) {
  const { allowed, request } = approval;
  const always = () => {
    const { allowedTools } = settings.get();
    changeSettings({ allowedTools: [...new Set([...allowedTools, request.name])] });
    onDone({ type: "approve" });
  };
  return (
    <div className="flex flex-wrap gap-2">
      {allowed.includes("approve") && (
        <>
          <Button kind="primary" onClick={() => onDone({ type: "approve" })}>
            Approve
          </Button>
          <Button kind="outline" onClick={always}>
            Always allow
          </Button>
        </>
      )}
      {allowed.includes("edit") && (
        <Button kind="outline" onClick={() => onForm("edit")}>
          Edit
        </Button>
      )}
      {allowed.includes("reject") && (
        <Button kind="danger" onClick={() => onForm("deny")}>
          Deny
        </Button>
      )}
    </div>
  );
}

interface FormProps {
  onDone: (decision: Decision) => void;
  onCancel: () => void;
}

function EditForm({ approval, onDone, onCancel }: FormProps & { approval: Approval }) {
  const { name, args } = approval.request;
  const [text, setText] = useState(() => JSON.stringify(args, null, 2));
  const [error, setError] = useState<string | null>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const edited = readObject(text);
    if (!edited) return setError("The arguments must be a JSON object.");
    onDone({ type: "edit", edited_action: { name, args: edited } });
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-2">
      <TextArea
        label="Arguments (JSON)"
        className="font-mono text-[13px]"
        rows={Math.min(12, text.split("\n").length + 1)}
        value={text}
        error={error}
        autoFocus
        onChange={(event) => setText(event.target.value)}
      />
      <div className="flex gap-2">
        <Button kind="primary" type="submit">
          Run with these arguments
        </Button>
        <Button onClick={onCancel}>Cancel</Button>
      </div>
    </form>
  );
}

function DenyForm({ onDone, onCancel }: FormProps) {
  const [reason, setReason] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const message = reason.trim();
    onDone({ type: "reject", ...(message ? { message } : {}) });
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-2">
      <TextField
        label="Reason (told to the model; may be empty)"
        value={reason}
        autoFocus
        onChange={(event) => setReason(event.target.value)}
      />
      <div className="flex gap-2">
        <Button kind="danger" type="submit">
          Deny the call
        </Button>
        <Button onClick={onCancel}>Cancel</Button>
      </div>
    </form>
  );
}

function readObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
