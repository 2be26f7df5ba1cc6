"""A request on its way through the engine: its sequences, its clock, and where its events go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from qwenkit.engine.request import Event, GenerationRequest, Logprobs, PromptReady, RequestDone
from qwenkit.engine.sequence import Sequence


class Task:
    """One request and the event queue of whoever waits for it.

    The engine's thread alone changes it, except for `cancelled`, which the caller sets.

    Args:
        request: What was asked for.
        loop: The event loop that its events go to; None for a background task, which nobody
            waits for and which runs only while nothing else does.
    """

    def __init__(self, request: GenerationRequest, loop: asyncio.AbstractEventLoop | None) -> None:
        self.request = request
        self.loop = loop
        self.events: asyncio.Queue[list[Event] | Exception] = asyncio.Queue()
        self.cancelled = False
        self.sequences: list[Sequence] = []
        self.prompt_logprobs: list[Logprobs | None] = [None]
        self._submitted = time.perf_counter()
        self._started: float | None = None
        self._prompt_done: float | None = None
        self._n_cached = 0
        self._last_token: dict[int, float] = {}

    @property
    def background(self) -> bool:
        """Whether nobody waits for it."""
        return self.loop is None

    @property
    def started(self) -> bool:
        """Whether any of its sequences has had a slot."""
        return self._started is not None

    @property
    def adapter(self) -> str:
        """Version of the adapter that it is computed with; empty without one."""
        active = self.request.adapter
        return "" if active is None else active.adapter.version

    def mark_started(self, n_cached: int) -> float | None:
        """A sequence got a slot that holds `n_cached` of the prompt's tokens.

        Returns:
            Seconds since it was submitted where that is its first sequence, else None.
        """
        if self._started is not None:
            return None
        self._started = time.perf_counter()
        self._n_cached = n_cached
        return self._started - self._submitted

    def mark_prompt_done(self) -> PromptReady | None:
        """The prompt is computed; the event for it, once."""
        if self._prompt_done is not None:
            return None
        self._prompt_done = time.perf_counter()
        logprobs = tuple(self.prompt_logprobs) if self.request.prompt_logprobs else ()
        return PromptReady(len(self.request.prompt), self._n_cached, logprobs)

    def seconds_since_token(self, choice: int) -> tuple[float, bool]:
        """Seconds since the choice's last token, or since submission when this is its first."""
        now = time.perf_counter()
        last = self._last_token.get(choice)
        self._last_token[choice] = now
        return (now - self._submitted, True) if last is None else (now - last, False)

    def done(self) -> RequestDone:
        """The last event."""
        now = time.perf_counter()
        started = self._started or now
        prompt_done = self._prompt_done or now
        return RequestDone(
            queue_s=started - self._submitted,
            prefill_s=prompt_done - started,
            decode_s=now - prompt_done,
        )

    @property
    def age_s(self) -> float:
        """Seconds since it was submitted."""
        return time.perf_counter() - self._submitted


class Outbox:
    """Gathers a step's events and hands them to each event loop in one call.

    Args:
        unheard: Called with a task whose event loop is closed: nobody waits for it any more.
    """

    def __init__(self, unheard: Callable[[Task], None]) -> None:
        self._unheard = unheard
        self._pending: dict[Task, list[Event] | Exception] = {}

    def add(self, task: Task, events: Iterable[Event]) -> None:
        """Queue events of a task."""
        queued = self._pending.setdefault(task, [])
        if isinstance(queued, list):
            queued.extend(events)

    def fail(self, task: Task, error: Exception) -> None:
        """End a task with an error, after what it has been sent."""
        self.flush()
        self._pending[task] = error

    def flush(self) -> None:
        """Deliver everything."""
        by_loop: dict[asyncio.AbstractEventLoop, dict[Task, list[Event] | Exception]] = {}
        for task, item in self._pending.items():
            if task.loop is not None:
                by_loop.setdefault(task.loop, {})[task] = item
        self._pending = {}
        for loop, items in by_loop.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # that loop is closed
                for task in items:
                    self._unheard(task)


def _deliver(items: dict[Task, list[Event] | Exception]) -> None:
    for task, item in items.items():
        task.events.put_nowait(item)
