/** The notices of `state/toasts`, read out as they come. */

import { useStore } from "../state/store";
import { dismissToast, toasts } from "../state/toasts";
import { IconButton } from "./Button";
import { classes } from "./classes";

export function Toasts() {
  const shown = useStore(toasts);
  return (
    <div
      aria-live="polite"
      className="pointer-events-none fixed inset-x-0 bottom-24 z-50 flex flex-col items-center gap-2 px-4"
    >
      {shown.map((toast) => (
        <div
          key={toast.id}
          className={classes(
            "card pointer-events-auto flex max-w-xl items-center gap-2 py-1.5 pr-1.5 pl-4 text-[14px] shadow-pop",
            toast.kind === "error" && "text-bad",
          )}
        >
          <span className="min-w-0 flex-1 break-words">{toast.text}</span>
          <IconButton
            icon="close"
            label="Dismiss notice"
            size={15}
            onClick={() => dismissToast(toast.id)}
          />
        </div>
      ))}
    </div>
  );
}
