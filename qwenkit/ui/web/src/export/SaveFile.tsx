/** The button that makes a file and saves it, and says why where there is nothing to save. */

import { useState } from "react";

import { describeError } from "../api/http";
import { showToast } from "../state/toasts";
import { Button, Note } from "../ui";
import { download } from "./download";

export interface MadeFile {
  name: string;
  content: Blob;
  /** What is in it, said beside its name. */
  told?: string;
}

export function SaveFile({
  label,
  make,
  emptyReason,
  onDone,
}: {
  label: string;
  make: () => Promise<MadeFile>;
  emptyReason: string;
  onDone: () => void;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const save = async () => {
    setBusy(true);
    setError(null);
    try {
      const { name, content, told } = await make();
      if (content.size === 0) {
        setError(emptyReason);
      } else {
        download(name, content);
        showToast(told === undefined ? `Saved ${name}` : `Saved ${name}: ${told}`);
        onDone();
      }
    } catch (failure) {
      setError(describeError(failure));
    }
    setBusy(false);
  };
  return (
    <>
      {error && <Note kind="bad">{error}</Note>}
      <div className="sticky -bottom-5 -mb-5 bg-raised pt-1 pb-5">
        <Button kind="primary" className="w-full" icon="download" disabled={busy} onClick={() => void save()}>
          {busy ? "Making the file…" : label}
        </Button>
      </div>
    </>
  );
}
