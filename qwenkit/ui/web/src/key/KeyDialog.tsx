/** Asks for the API key; it is kept in this browser and sent with every request. */

import { type FormEvent, useEffect, useId, useRef, useState } from "react";

import { giveKey, keyRequest, refuseKey } from "../state/key";
import { useStore } from "../state/store";
import { Button, Dialog, TextField } from "../ui";

export function KeyDialog() {
  const asked = useStore(keyRequest);
  const [text, setText] = useState("");
  const form = useId();
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const give = (event: FormEvent) => {
    event.preventDefault();
    if (text.trim()) giveKey(text);
  };
  return (
    <Dialog
      title="API key"
      onClose={refuseKey}
      width="26rem"
      footer={
        <>
          <Button onClick={refuseKey}>Not now</Button>
          <Button kind="primary" type="submit" form={form} disabled={!text.trim()}>
            Use this key
          </Button>
        </>
      }
    >
      <form id={form} onSubmit={give}>
        <TextField
          label="Key of this server"
          hint="One of API_KEYS, or of ADMIN_API_KEYS to change what is served. It stays in this browser."
          error={asked?.refused ? "The server refused the key that was given." : null}
          type="password"
          autoComplete="current-password"
          spellCheck={false}
          ref={field}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </form>
    </Dialog>
  );
}
