"""Ends a text at a line, by its indentation or by the clock. Pure but for the clock it is given.

These are llama-server's two limits for code: a block is filled in until it is left, and a long
answer ends at the next line end once its time is over.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class LineLimits:
    """Feed it what is written; it says what of it counts.

    Args:
        n_indent: Every line but the first must begin with so many blanks, or the text ends before
            it; 0 takes all lines.
        max_s: Seconds after the first text from which the next line end is the text's; None never.
        clock: Tells seconds.
    """

    def __init__(
        self,
        *,
        n_indent: int = 0,
        max_s: float | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.done = False
        self._n_indent = n_indent
        self._max_s = max_s
        self._clock = clock
        self._began: float | None = None
        self._held = ""
        self._indent = 0

    def feed(self, text: str) -> str:
        """What is sure to count, with more to come; nothing any more once it is `done`."""
        if text and self._began is None:
            self._began = self._clock()
        certain = ""
        for char in text:
            if self.done:
                break
            certain += self._take(char)
        return certain

    def rest(self) -> str:
        """What was held back and counts after all, when the text has ended by itself."""
        held = "" if self.done else self._held
        self._held = ""
        return held

    def _take(self, char: str) -> str:
        if char == "\n":
            self.done = self._is_late()
            self._held += char
            self._indent = 0
            return ""
        if self._held and char in " \t":
            self._held += char
            self._indent += 1
            return ""
        if self._held and self._indent < self._n_indent:
            self.done = True
            return ""
        taken, self._held = self._held + char, ""
        return taken

    def _is_late(self) -> bool:
        if self._max_s is None or self._began is None:
            return False
        return self._clock() - self._began > self._max_s
