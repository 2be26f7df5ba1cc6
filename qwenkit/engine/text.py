"""Token bytes become text, and stop strings are found in it. Pure; knows no tokens and no clock."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Decodes UTF-8 as it comes and holds back what may be the start of a stop string.

    Args:
        stops: Strings at which the text ends; the earliest match wins, and of those the longest.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = stops
        self._held = ""
        self.stopped_by: str | None = None

    def feed(self, data: bytes, *, stoppable: bool = True) -> str:
        """Add a token's bytes and return the text that is certain now.

        Args:
            data: The bytes.
            stoppable: Whether stop strings count in them; where they don't, they can't begin
                there either.
        """
        text = self._decoder.decode(data)
        if not self._stops or self.stopped_by is not None:
            return text
        if not stoppable:
            text, self._held = self._held + text, ""
            return text
        return self._until_stop(self._held + text)

    def flush(self) -> str:
        """Return what was held back; an incomplete character becomes U+FFFD."""
        if self.stopped_by is not None:
            return ""
        text, self._held = self._held + self._decoder.decode(b"", final=True), ""
        return text

    def _until_stop(self, text: str) -> str:
        found = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if found:
            at, _, self.stopped_by = min(found)
            return text[:at]
        n_held = max(_overlap(text, stop) for stop in self._stops)
        cut = len(text) - n_held
        self._held = text[cut:]
        return text[:cut]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
