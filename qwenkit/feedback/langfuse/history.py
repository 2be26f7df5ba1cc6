"""An answer and all that was ever said of it, from the log. Knows the log's index; no Langfuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.records import Interaction, Rating


@dataclass(frozen=True, slots=True)
class History:
    """What the log has of an answer.

    Args:
        interaction: The answer.
        ratings: Every rating of it, those that no longer count too, in the order they were given.
    """

    interaction: Interaction
    ratings: tuple[Rating, ...]


class LogHistory:
    """Finds answers in a log, also those that were written a moment ago.

    Args:
        folder: The log's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: FeedbackIndex | None = None

    def __call__(self, answer_id: str) -> History | None:
        """The answer's; None where the log has no such answer.

        Raises:
            LogUnreadable: The log's index can't be read.
        """
        if self._index is None:
            self._index = FeedbackIndex(self._folder)
        self._index.refresh()
        return history_of(self._index, answer_id)

    def close(self) -> None:
        """Close the index."""
        if self._index is not None:
            self._index.close()


def history_of(index: FeedbackIndex, answer_id: str) -> History | None:
    """An answer's history, as of the index's last refresh.

    Raises:
        LogUnreadable: The log's index can't be read.
    """
    found = index.answer(answer_id)
    return None if found is None else History(found.interaction, index.history(answer_id))
