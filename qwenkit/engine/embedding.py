"""Texts that wait to be embedded, one chunk of one of them between two steps. Knows no threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass

from qwenkit.backends.base import Aborted, ComputeFailed, FloatArray, IntArray
from qwenkit.errors import DecodeFailed

Embed = Callable[[IntArray], Generator[None, None, FloatArray]]
"""A backend's `embed`."""


@dataclass(slots=True)
class _Job:
    tokens: IntArray
    future: Future[FloatArray]
    chunks: Generator[None, None, FloatArray] | None = None


class EmbeddingQueue:
    """Embeds texts in the order they came.

    Args:
        embed: The backend's.
    """

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._jobs: deque[_Job] = deque()

    def __bool__(self) -> bool:
        """Whether a text is waiting."""
        return bool(self._jobs)

    def add(self, tokens: IntArray, future: Future[FloatArray]) -> None:
        """Queue a text; its vector goes to the future. A cancelled future leaves the queue."""
        self._jobs.append(_Job(tokens, future))

    def advance(self) -> None:
        """Compute the next chunk of the first text."""
        while self._jobs and self._jobs[0].future.cancelled():
            self._jobs.popleft()
        if not self._jobs:
            return
        job = self._jobs[0]
        if job.chunks is None:
            job.chunks = self._embed(job.tokens)
        try:
            next(job.chunks)
        except StopIteration as done:
            vector = done.value
            self._end(lambda future: future.set_result(vector))
        except Aborted:
            job.chunks = None  # from the start, unless whoever aborted takes it back
        except ComputeFailed as exc:
            error = DecodeFailed(f"the runtime failed: {exc}")
            self._end(lambda future: future.set_exception(error))

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """End every text with an error."""
        while self._jobs:
            self._end(lambda future: future.set_exception(error()))

    def _end(self, settle: Callable[[Future[FloatArray]], None]) -> None:
        future = self._jobs.popleft().future
        if future.set_running_or_notify_cancel():
            settle(future)
