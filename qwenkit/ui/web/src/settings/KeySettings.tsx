/** The API key that this browser keeps, and what it lets its holder do. */

import { forgetKey, keyStore, requestKey } from "../state/key";
import { me } from "../state/me";
import { useStore } from "../state/store";
import { Button } from "../ui";
import { Section } from "./Section";

const ROLES = {
  nobody: "Without a key this server answers nothing.",
  user: "You may chat and rate. Changing what is served needs an admin's key.",
  admin: "You may change what is served: adapters, MCP servers, the log.",
};

/** What was read with the key goes from the page, too. */
function forget(): void {
  forgetKey();
  location.reload();
}

export function KeySettings() {
  const key = useStore(keyStore);
  const known = useStore(me);
  return (
    <Section title="API key">
      {known && <p className="text-[14px] text-text-soft">{ROLES[known.role]}</p>}
      <div className="flex flex-wrap gap-2">
        <Button kind="outline" icon="key" onClick={() => void requestKey(null)}>
          {key === null ? "Give a key" : "Change the key"}
        </Button>
        {key !== null && (
          <Button kind="danger" onClick={forget}>
            Forget the key
          </Button>
        )}
      </div>
      {known && <p className="hint mt-0">qwenkit {known.version}</p>}
    </Section>
  );
}
