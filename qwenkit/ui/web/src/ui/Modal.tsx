/** Dialogs in the middle of the page and drawers at its sides. The browser keeps the focus inside
 * and closes them on Escape.
 */

import { type ReactNode, type RefObject, useEffect, useId, useRef } from "react";

import { IconButton } from "./Button";

interface ModalProps {
  title: string;
  onClose: () => void;
  children: ReactNode;
  /** Buttons below the content. */
  footer?: ReactNode;
  /** Widest it gets, as CSS has it. */
  width?: string;
}

export function Dialog({ title, onClose, children, footer, width }: ModalProps) {
  const id = useId();
  const ref = useOpen();
  return (
    <dialog
      ref={ref}
      className="modal"
      aria-labelledby={id}
      style={width ? ({ "--modal-width": width } as object) : undefined}
      {...closing(ref, onClose)}
    >
      <ModalHead id={id} title={title} onClose={onClose} />
      <div className="min-h-0 overflow-y-auto px-5 pb-5">{children}</div>
      {footer && (
        <footer className="flex flex-wrap justify-end gap-2 border-t px-5 py-3">{footer}</footer>
      )}
    </dialog>
  );
}

interface DrawerProps {
  title: string;
  side: "left" | "right";
  onClose: () => void;
  children: ReactNode;
  /** The content has a heading and a close button of its own. */
  bare?: boolean;
}

export function Drawer({ title, side, onClose, children, bare }: DrawerProps) {
  const id = useId();
  const ref = useOpen();
  const name = bare ? { "aria-label": title } : { "aria-labelledby": id };
  return (
    <dialog ref={ref} className="drawer" data-side={side} {...name} {...closing(ref, onClose)}>
      {!bare && <ModalHead id={id} title={title} onClose={onClose} />}
      <div className="flex min-h-0 flex-1 flex-col overflow-y-auto">{children}</div>
    </dialog>
  );
}

function ModalHead({ id, title, onClose }: { id: string; title: string; onClose: () => void }) {
  return (
    <header className="flex items-center justify-between gap-3 py-3 pr-3 pl-5">
      <h2 id={id} className="text-[17px] font-semibold">
        {title}
      </h2>
      <IconButton icon="close" label={`Close ${title}`} onClick={onClose} />
    </header>
  );
}

function useOpen(): RefObject<HTMLDialogElement | null> {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    if (dialog && !dialog.open) dialog.showModal();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return ref;
}

function closing(ref: RefObject<HTMLDialogElement | null>, onClose: () => void) {
  return {
    onCancel: (event: { preventDefault(): void; target: unknown }) => {
      if (event.target !== ref.current) return;
      event.preventDefault();
      onClose();
    },
    onClick: (event: { target: unknown }) => {
      if (event.target === ref.current) onClose();
    },
  };
}
