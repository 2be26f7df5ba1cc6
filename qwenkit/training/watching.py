"""How a run is watched while it trains: where it stands, and who is told. Knows no display."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a run is.

    Args:
        step: Changes of the weights so far.
        n_steps: Of the whole run.
        loss: Mean since the line before; None before the first.
        held_out_loss: Of the newest look at held-out data; None before it.
        tokens_per_s: Tokens a second, lately; None where that is not known.
        eta_s: Seconds to the end, at the rate of lately; None where that is not known.
    """

    step: int
    n_steps: int
    loss: float | None = None
    held_out_loss: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None


class Watch(Protocol):
    """Shows a run; the function that it gives is told where the run stands."""

    def __call__(
        self, *, step: int, n_steps: int
    ) -> AbstractContextManager[Callable[[Standing], None]]:
        """Begin at a step; leaving the context ends it."""


@contextmanager
def unwatched(*, step: int, n_steps: int) -> Iterator[Callable[[Standing], None]]:  # noqa: ARG001
    """Show nothing."""
    yield lambda _: None
