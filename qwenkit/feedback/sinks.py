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
