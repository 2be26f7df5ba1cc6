"""The texts of an answer that comes in rounds, each by itself. Pure."""

from __future__ import annotations

from qwenkit.mcp.rounds import GAP


class RoundTexts:
    """Takes off the blank line by which a later round's text keeps away from an earlier one's.

    Here every round has items of its own.
    """

    def __init__(self) -> None:
        self._earlier: set[str] = set()
        self._now: set[str] = set()

    def own(self, kind: str, text: str) -> str:
        """A piece of text of some kind, without what sets its round off from those before."""
        if kind in self._now:
            return text
        self._now.add(kind)
        return text.removeprefix(GAP) if kind in self._earlier else text

    def end(self) -> None:
        """The round is over."""
        self._earlier |= self._now
        self._now.clear()
