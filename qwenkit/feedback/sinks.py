"""Where records go: the log, and whatever else follows along. Knows records only."""

from __future__ import annotations

from typing import Protocol

from qwenkit.feedback.records import Interaction, Rating, ToolRun


class Sink(Protocol):
    """Takes records. Answers never wait for it and never fail because of it.

    Only `rating` may raise, and only where a rating counts as given once it is written.
    """

    def interaction(self, record: Interaction) -> None:
        """Take an answer."""

    def rating(self, record: Rating) -> None:
        """Take a rating.

        Raises:
            LogUnwritable: It was not written.
        """

    def tool_run(self, record: ToolRun) -> None:
        """Take a run of a tool."""

    def close(self) -> None:
        """Let go of files and threads; nothing is taken any more."""


class NoSink:
    """Takes everything and keeps nothing."""

    def interaction(self, record: Interaction) -> None:
        """Forget an answer."""

    def rating(self, record: Rating) -> None:
        """Forget a rating."""

    def tool_run(self, record: ToolRun) -> None:
        """Forget a run of a tool."""

    def close(self) -> None:
        """Do nothing."""


class Sinks:
    """Several sinks as one. A rating counts as given when the first of them has it.

    Args:
        sinks: In order; the log comes first.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def interaction(self, record: Interaction) -> None:
        """Give an answer to each."""
        for sink in self._sinks:
            sink.interaction(record)

    def rating(self, record: Rating) -> None:
        """Give a rating to each, in order.

        Raises:
            LogUnwritable: One could not write it; those after it don't get it.
        """
        for sink in self._sinks:
            sink.rating(record)

    def tool_run(self, record: ToolRun) -> None:
        """Give a run of a tool to each."""
        for sink in self._sinks:
            sink.tool_run(record)

    def close(self) -> None:
        """Close each."""
        for sink in self._sinks:
            sink.close()
