"""What becomes of records on their way to Langfuse, for those who count. Knows no server."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

Lost: TypeAlias = Literal["queue_full", "refused", "unreachable", "unusable", "closed"]
"""Why Langfuse has not taken a record."""


class Counter(Protocol):
    """Told what becomes of records. Called on several threads; must return at once."""

    def on_langfuse_sent(self, n_records: int) -> None:
        """So many records are in Langfuse."""

    def on_langfuse_lost(self, reason: Lost, n_records: int) -> None:
        """So many will not be."""
