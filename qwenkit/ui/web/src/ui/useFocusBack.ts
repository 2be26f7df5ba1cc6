/** Gives the focus back when a form goes that had it, as dialogs do by themselves. */

import { type RefObject, useLayoutEffect, useRef } from "react";

/** For the form's element. The focus goes to what had it before the form came; a button that is
 * disabled while it saves has lost it to the whole page.
 */
export function useFocusBack<T extends HTMLElement>(): RefObject<T | null> {
  const ref = useRef<T>(null);
  const before = useRef(document.activeElement);
  useLayoutEffect(() => {
    const form = ref.current;
    const opener = before.current;
    return () => {
      const { activeElement } = document;
      const had = form?.contains(activeElement) || activeElement === document.body;
      if (had && opener instanceof HTMLElement) opener.focus();
    };
  }, []);
  return ref;
}
