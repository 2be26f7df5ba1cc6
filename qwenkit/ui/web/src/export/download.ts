/** Hands text or bytes to the browser as a file. */

export function download(name: string, content: Blob): void {
  const url = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  // A browser may still be reading when `click` returns.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A file name of a title: lower case, words joined by hyphens, at most 60 characters. */
export function fileName(title: string, ending: string): string {
  const words = title
    .normalize("NFC")
    .toLowerCase()
    .replace(/[^\p{Letter}\p{Mark}\p{Number}]+/gu, "-")
    .slice(0, 60)
    .replace(/^-+|-+$/g, "");
  return `${words || "chat"}.${ending}`;
}
