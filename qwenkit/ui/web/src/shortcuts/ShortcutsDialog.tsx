/** What can be done with keys alone. */

import { SHORTCUTS, type Shortcut } from "../layout/useShortcuts";
import { Dialog } from "../ui";

const IN_THE_LIST: Shortcut[] = [
  { keys: ["↑", "↓"], does: "Go through the conversations" },
  { keys: ["Enter"], does: "Open the conversation" },
  { keys: ["F2"], does: "Rename it" },
  { keys: ["Delete"], does: "Delete it" },
];

const IS_MAC = /Mac|iPhone|iPad/.test(navigator.platform);

export function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <Keys title="Everywhere" shortcuts={SHORTCUTS} />
      <Keys title="In the list of conversations" shortcuts={IN_THE_LIST} />
    </Dialog>
  );
}

function Keys({ title, shortcuts }: { title: string; shortcuts: readonly Shortcut[] }) {
  return (
    <section className="mb-4 last:mb-0">
      <h3 className="mb-1 text-[13px] font-semibold text-text-soft">{title}</h3>
      <dl className="divide-y">
        {shortcuts.map(({ keys, does }) => (
          <div key={does} className="flex min-h-[40px] items-center justify-between gap-4">
            <dt>{does}</dt>
            <dd className="flex gap-1">
              {keys.map((key) => (
                <kbd key={key}>{nameOf(key)}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function nameOf(key: string): string {
  if (key !== "Mod") return key;
  return IS_MAC ? "⌘" : "Ctrl";
}
