"""How long work reports its progress: a context manager that yields a function to advance by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

Advance: TypeAlias = Callable[[int], None]


class ProgressFactory(Protocol):
    """Starts one progress bar; `total` and what `advance` is given are counted in `unit`."""

    def __call__(
        self, description: str, *, total: int | None, unit: str = "B"
    ) -> AbstractContextManager[Advance]:
        """Begin to show progress; leaving the context ends it."""


@contextmanager
def silent(description: str, *, total: int | None, unit: str = "B") -> Iterator[Advance]:  # noqa: ARG001
    """Show nothing."""
    yield lambda _: None
