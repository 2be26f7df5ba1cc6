"""Loads a model on a thread of its own and says how far it is. Knows threads; no requests.

    LoadPlan ─▶ Loader (a daemon thread) ─▶ ChatModel, or what went wrong

The thread is a daemon and no executor's: a server that is told to stop must not wait for a
download. A model that is ready when nobody wants it any more is freed at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from qwenkit.chat.completion import ChatModel
from qwenkit.engine.observer import Observer
from qwenkit.models.progress import Advance, ProgressFactory
from qwenkit.settings import ModelSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Which model to serve.

    Args:
        spec: Which weights and how to load them.
        name: What clients call it; made from where it came when None.
    """

    spec: ModelSpec
    name: str | None = None

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names that requests may use beside the model's own."""
        return (self.spec.model_path,) if self.spec.model_path else ()


class Loader(Protocol):
    """Loads a model and starts its engine; may take minutes. `load_chat_model` is one."""

    def __call__(
        self,
        spec: ModelSpec,
        *,
        name: str | None,
        progress: ProgressFactory,
        observer: Observer,
    ) -> ChatModel:
        """Load it; the engine reports to the observer.

        Raises:
            QwenkitError: It can't be loaded.
        """
        ...


async def load_aside(load: Callable[[], ChatModel]) -> ChatModel:
    """The model that `load` makes on a thread of its own; raises what it raised."""
    return await run_aside(load, if_late=lambda model: model.engine.close())


async def run_aside(work: Callable[[], T], *, if_late: Callable[[T], None] = lambda _: None) -> T:
    """What some work on a thread of its own results in; raises what it raised.

    Args:
        work: Takes long and can't be interrupted.
        if_late: Gets a result that came when the wait for it had been cancelled.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    threading.Thread(target=_run, args=(work, future), name="qwenkit-load", daemon=True).start()
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except asyncio.CancelledError:
        future.add_done_callback(
            lambda late: if_late(late.result()) if late.exception() is None else None
        )
        raise


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except BaseException as exc:  # handed to whoever waits for it
        future.set_exception(exc)


@dataclass(slots=True)
class Progress:
    """How far a piece of work is.

    Args:
        description: What is being done.
        done: How much of it.
        total: How much there is to do; None when that is unknown.
        unit: What is counted; `B` is bytes.
    """

    description: str
    done: int
    total: int | None
    unit: str


class WatchedProgress:
    """A `ProgressFactory` that can be asked how far the work is.

    Args:
        show: Shows it, too.
    """

    def __init__(self, show: ProgressFactory) -> None:
        self.now: Progress | None = None
        self._show = show

    @contextmanager
    def __call__(
        self, description: str, *, total: int | None, unit: str = "B"
    ) -> Iterator[Advance]:
        """Begin a piece of work; leaving the context ends it."""
        progress = Progress(description, 0, total, unit)
        with self._show(description, total=total, unit=unit) as advance:

            def advance_both(n: int) -> None:
                progress.done += n
                advance(n)

            self.now = progress
            try:
                yield advance_both
            finally:
                if self.now is progress:
                    self.now = None
