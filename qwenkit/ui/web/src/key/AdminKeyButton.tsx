/** Where something needs an admin: asks for a key that can do it. */

import { requestKey } from "../state/key";
import { Button } from "../ui";

export function AdminKeyButton() {
  return (
    <Button kind="outline" icon="key" onClick={() => void requestKey(null)}>
      Give an admin’s key
    </Button>
  );
}
