"""Cuts growing Markdown into blocks that are finished and one that still grows. Pure."""

from __future__ import annotations

import re

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class BlockSplitter:
    """Takes Markdown in pieces and gives back the blocks that can't change any more.

    A block ends at a blank line that is followed by text at the margin, outside of a code fence:
    so an indented continuation stays with its list.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._rest = ""
        self._fence = ""

    @property
    def tail(self) -> str:
        """The unfinished block."""
        return "\n".join([*self._lines, self._rest])

    def feed(self, text: str) -> list[str]:
        """Take in a piece; returns the blocks it finished."""
        *lines, self._rest = (self._rest + text).split("\n")
        blocks = []
        for line in lines:
            if self._begins_block(line):
                blocks.append(self._take())
            self._lines.append(line)
            self._track_fence(line)
        return blocks

    def finish(self) -> list[str]:
        """Give back what is left."""
        blocks = [*self.feed("\n"), self._take()]
        self._fence = ""
        return [block for block in blocks if block]

    def _begins_block(self, line: str) -> bool:
        after_blank = len(self._lines) > 0 and not self._lines[-1].strip()
        at_margin = line[:1] not in ("", " ", "\t")
        return not self._fence and after_blank and at_margin and any(map(str.strip, self._lines))

    def _track_fence(self, line: str) -> None:
        match = _FENCE.match(line)
        if match is None:
            return
        marks = match[1]
        if not self._fence:
            self._fence = marks
        elif line.strip() == marks and marks.startswith(self._fence):
            self._fence = ""

    def _take(self) -> str:
        block = "\n".join(self._lines).strip("\n")
        self._lines = []
        return block
