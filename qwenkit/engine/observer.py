"""What an engine tells of itself while it runs. Knows no metrics system; the server has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Outcome = Literal["stop", "length", "cancelled", "error"]


class Observer(Protocol):
    """Called on the engine's thread; must return at once and never raise."""

    def on_started(self, seconds: float) -> None:
        """A request got a slot this long after its submission."""
        ...

    def on_first_token(self, seconds: float) -> None:
        """A request's first token came this long after its submission."""
        ...

    def on_token_gap(self, seconds: float) -> None:
        """A running choice's next token came this long after the one before."""
        ...

    def on_step(self, n_decode: int, n_prefill: int, seconds: float) -> None:
        """A step computed so many rows of running answers and of prompts."""
        ...

    def on_prompt(self, n_prompt: int, n_cached: int, adapter: str) -> None:
        """A prompt was computed with an adapter of that version; empty is without one.

        `n_cached` of its tokens were reused.
        """
        ...

    def on_draft(self, n_drafted: int, n_accepted: int) -> None:
        """So many guessed tokens were verified, and so many of them were right."""
        ...

    def on_choice_done(self, n_tokens: int, outcome: Outcome, adapter: str) -> None:
        """A choice ended with so many tokens; the adapter as in `on_prompt`."""
        ...


class SilentObserver:
    """Observes nothing."""

    def on_started(self, seconds: float) -> None:
        """Ignore it."""

    def on_first_token(self, seconds: float) -> None:
        """Ignore it."""

    def on_token_gap(self, seconds: float) -> None:
        """Ignore it."""

    def on_step(self, n_decode: int, n_prefill: int, seconds: float) -> None:
        """Ignore it."""

    def on_prompt(self, n_prompt: int, n_cached: int, adapter: str) -> None:
        """Ignore it."""

    def on_draft(self, n_drafted: int, n_accepted: int) -> None:
        """Ignore it."""

    def on_choice_done(self, n_tokens: int, outcome: Outcome, adapter: str) -> None:
        """Ignore it."""


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """An engine at one moment.

    Args:
        n_running: Sequences that hold a decodable slot.
        n_waiting: Sequences that wait for one.
        n_slots: Decodable slots.
        n_parked: Sequences whose state is only kept for reuse.
        cells_used: KV cells in use, shared ones counted once.
        n_cells: KV cells in all.
        n_preempted: Sequences that lost their slot to make room, since the start.
        n_evicted: Parked states dropped to make room, since the start.
        n_restored: States brought back from ordinary memory, since the start.
        n_shelved: States that ordinary memory holds.
        shelf_bytes: Their size.
        max_shelf_bytes: Most that they may take.
    """

    n_running: int
    n_waiting: int
    n_slots: int
    n_parked: int
    cells_used: int
    n_cells: int
    n_preempted: int
    n_evicted: int
    n_restored: int
    n_shelved: int
    shelf_bytes: int
    max_shelf_bytes: int
