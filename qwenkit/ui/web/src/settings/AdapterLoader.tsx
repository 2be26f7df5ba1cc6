/** Loads an adapter from the server's disk; needs the admin role. */

import { type FormEvent, useState } from "react";

import { ApiError, describeError } from "../api/http";
import { loadAdapter } from "../api/models";
import { refreshModels } from "../state/models";
import { changeSettings } from "../state/settings";
import { showToast } from "../state/toasts";
import { Button, Icon, Note, Switch, TextField } from "../ui";

export function AdapterLoader() {
  return (
    <details className="fold">
      <summary>
        <Icon name="plus" size={16} /> Load an adapter
      </summary>
      <LoadForm />
    </details>
  );
}

/** A name for an adapter: the last part of its path, without the ending. */
function nameOf(path: string): string {
  const last = path.trim().replace(/[/\\]+$/, "").split(/[/\\]/).at(-1) ?? "";
  return last.replace(/\.(gguf|onnx_adapter)$/, "");
}

function LoadForm() {
  const [path, setPath] = useState("");
  const [given, setGiven] = useState("");
  const [replace, setReplace] = useState(false);
  const [state, setState] = useState<{ busy: boolean; error: string | null; param: string | null }>({
    busy: false,
    error: null,
    param: null,
  });
  const name = given.trim() || nameOf(path);

  const load = async (event: FormEvent) => {
    event.preventDefault();
    setState({ busy: true, error: null, param: null });
    try {
      const adapter = await loadAdapter(name, path.trim(), replace);
      await refreshModels();
      changeSettings({ model: adapter.name });
      showToast(`“${adapter.name}” is loaded and answers from the next message on`);
      setState({ busy: false, error: null, param: null });
      setPath("");
      setGiven("");
    } catch (error) {
      const param = error instanceof ApiError ? error.param : null;
      setState({ busy: false, error: describeError(error), param });
    }
  };

  const errorAt = (field: string) => (state.param === field ? state.error : null);
  return (
    <form className="flex flex-col gap-3 pt-3" onSubmit={(event) => void load(event)}>
      <TextField
        label="Path on the server"
        hint="A PEFT folder, a .gguf or an .onnx_adapter, where LORA_DIRS or LORA_PATHS allow it."
        placeholder="/data/adapters/poet"
        required
        spellCheck={false}
        autoComplete="off"
        value={path}
        error={errorAt("path")}
        onChange={(event) => setPath(event.target.value)}
      />
      <TextField
        label="Adapter's name"
        hint="What requests call it."
        placeholder={nameOf(path) || "poet"}
        spellCheck={false}
        autoComplete="off"
        maxLength={256}
        value={given}
        error={errorAt("name")}
        onChange={(event) => setGiven(event.target.value)}
      />
      <Switch
        label="Take the name from another adapter"
        checked={replace}
        onChange={setReplace}
      />
      {state.error && !errorAt("path") && !errorAt("name") && <Note kind="bad">{state.error}</Note>}
      <Button kind="primary" type="submit" disabled={state.busy || !path.trim()}>
        {state.busy ? "Loading…" : "Load adapter"}
      </Button>
    </form>
  );
}
