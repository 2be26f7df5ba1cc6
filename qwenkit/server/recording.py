"""Takes down what the server answers, beside the answering. Knows sinks and threads; no HTTP.

    events ─▶ recorded(events, capture, recorder) ─▶ the client
                  │  the last event waits until it is written, but not for long
                  ▼
    Recorder ─▶ a thread for each sink ─▶ the log | Langfuse | …

A sink that is slow, broken or gone costs neither an answer nor another sink: records wait for it in
a queue of its own, and those that find no place there are counted and dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from queue import SimpleQueue
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from qwenkit.chat.events import ChatDone
from qwenkit.engine.request import Event
from qwenkit.errors import LogUnwritable
from qwenkit.feedback.capture import TextCapture
from qwenkit.feedback.records import Interaction, Rating, Record, ToolRun
from qwenkit.feedback.sinks import Sink

logger = logging.getLogger(__name__)

LOG = "log"
"""The sink whose records count as kept."""
WAIT_S = 2.0
"""Most seconds that the end of an answer waits for the log."""
RATING_WAIT_S = 30.0
"""Most seconds that a rating waits for it: it is acknowledged only when written."""
MAX_WAITING = 1000
"""Answers that may wait for a sink; each holds its conversation."""
CLOSE_S = 10.0

Outcome: TypeAlias = Literal["written", "failed", "dropped"]
Count: TypeAlias = Callable[[str, str, Outcome], None]
"""Told a sink's name, a kind of record, and what became of one."""
Make: TypeAlias = Callable[[], Sequence[Record]]
"""Makes records; called once, on a thread of a sink."""
Prepare: TypeAlias = Callable[[Record], Record]
"""Takes out of a record what no sink may see."""
T = TypeVar("T")


class Capture(Protocol):
    """Follows an answer and makes its records."""

    def follow(self, event: Any) -> None:
        """Take note of an event."""

    def records(self) -> Sequence[Record]:
        """What there is to record; called once, on another thread."""


class Recorder:
    """Hands records to sinks, each on a thread of its own.

    Args:
        count: Told what becomes of each record.
        wait_s: Most seconds that the end of an answer waits for the log.
        most_waiting: Answers that may wait for a sink.

    Attributes:
        prepare: What every record goes through before any sink sees it.
    """

    def __init__(
        self, count: Count, *, wait_s: float = WAIT_S, most_waiting: int = MAX_WAITING
    ) -> None:
        self.prepare: Prepare = _as_it_is
        self._count = count
        self._wait_s = wait_s
        self._most_waiting = most_waiting
        self._lanes: dict[str, _Lane] = {}
        self._leaving: list[_Lane] = []

    def attach(self, name: str, sink: Sink) -> None:
        """Give a sink every record from now on; the one of that name before gets what waits for it.

        The log's name is `LOG`. Without a log nothing is recorded anywhere.
        """
        self.detach(name)
        self._lanes[name] = _Lane(name, sink, self._count, self._most_waiting)

    def detach(self, name: str) -> None:
        """Let a sink have what waits for it, and close it; nothing where there is none."""
        lane = self._lanes.pop(name, None)
        if lane is not None:
            lane.end()
            self._leaving = [each for each in (*self._leaving, lane) if each.is_running]

    @property
    def is_on(self) -> bool:
        """Whether answers are recorded."""
        return LOG in self._lanes

    def wants(self, store: bool | None) -> bool:
        """Whether an answer is recorded whose request says `store`; None says nothing."""
        return self.is_on and store is not False

    def submit(self, make: Make) -> None:
        """Record something and don't wait for it."""
        self._put(make)

    async def written(self, make: Make) -> None:
        """Record something; returns when the log has it, could not take it, or takes too long."""
        written = self._put(make)
        if written is not None and not written.done():
            await asyncio.wait({asyncio.wrap_future(written)}, timeout=self._wait_s)

    async def rate(self, rating: Rating) -> Record:
        """Keep a rating; returns it as it is kept.

        Raises:
            LogUnwritable: It is not kept.
        """
        log = self._lanes.get(LOG)
        if log is None:
            raise LogUnwritable("answers are not logged here", hint="set LOG_ANSWERS to full")
        batch = self._batch(lambda: [rating])
        writing = asyncio.wrap_future(log.put(batch))
        done, _ = await asyncio.wait({writing}, timeout=RATING_WAIT_S)
        if not done:
            raise LogUnwritable("the log takes too long to write", hint="look after its disk")
        if (failure := writing.result()) is not None:
            raise _unwritable(failure) from failure
        for name, lane in self._lanes.items():
            if name != LOG:
                lane.put(batch)
        return batch.records()[0]

    async def close(self) -> None:
        """Let every sink have what waits for it, and close it."""
        for name in [*self._lanes]:
            self.detach(name)
        leaving, self._leaving = self._leaving, []
        await asyncio.gather(*(asyncio.to_thread(lane.join, CLOSE_S) for lane in leaving))

    def _put(self, make: Make) -> Future[Exception | None] | None:
        if not self.is_on:
            return None
        batch = self._batch(make)
        putting = {name: lane.put(batch) for name, lane in self._lanes.items()}
        return putting[LOG]

    def _batch(self, make: Make) -> _Batch:
        prepare = self.prepare
        return _Batch(lambda: [prepare(each) for each in make()])


def _as_it_is(record: Record) -> Record:
    return record


def _unwritable(failure: Exception) -> LogUnwritable:
    if isinstance(failure, LogUnwritable):
        return LogUnwritable(failure.message, hint=failure.hint)
    return LogUnwritable(f"the log failed: {type(failure).__name__}")


async def recorded(
    events: AsyncGenerator[T], capture: Capture, recorder: Recorder
) -> AsyncGenerator[T]:
    """A chat's events, recorded before the last one is passed on; or when they are cut off."""
    ended = False
    try:
        async with aclosing(events):
            async for event in events:
                capture.follow(event)
                if isinstance(event, ChatDone):
                    ended = True
                    await recorder.written(capture.records)
                yield event
    finally:
        if not ended:
            recorder.submit(capture.records)


async def recorded_texts(
    events: AsyncGenerator[tuple[int, Event]], capture: TextCapture, recorder: Recorder
) -> AsyncGenerator[tuple[int, Event]]:
    """The events of continued texts, recorded before they end; or when they are cut off."""
    ended = False
    try:
        async with aclosing(events):
            async for text, event in events:
                capture.follow(text, event)
                yield text, event
        ended = True
        await recorder.written(capture.records)
    finally:
        if not ended:
            recorder.submit(capture.records)


class _Batch:
    """Records that are made when the first sink comes for them."""

    def __init__(self, make: Make) -> None:
        self._make: Make | None = make
        self._made: Sequence[Record] = ()
        self._lock = threading.Lock()

    def records(self) -> Sequence[Record]:
        with self._lock:
            make, self._make = self._make, None
            if make is not None:
                self._made = make()
            return self._made


class _Lane:
    """One sink, and the records that wait for it."""

    def __init__(self, name: str, sink: Sink, count: Count, most_waiting: int) -> None:
        self._name = name
        self._sink = sink
        self._count = count
        self._most_waiting = most_waiting
        self._failing = False
        self._waiting: SimpleQueue[tuple[_Batch, Future[Exception | None]] | None] = SimpleQueue()
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"records-{name}", daemon=True)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def put(self, batch: _Batch) -> Future[Exception | None]:
        """What came of it, when that is known; an error is its result, for few look at it."""
        came_of_it: Future[Exception | None] = Future()
        if self._waiting.qsize() >= self._most_waiting:
            full = LogUnwritable("too many records wait to be written", hint="look after its disk")
            self._count(self._name, "batch", "dropped")
            self._note(full)
            came_of_it.set_result(full)
            return came_of_it
        self._waiting.put((batch, came_of_it))
        if self._thread.ident is None:
            self._thread.start()
        return came_of_it

    def end(self) -> None:
        """Let the thread end when nothing waits any more."""
        if self._thread.ident is None:
            self._sink.close()
        else:
            self._waiting.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait until it has."""
        self._thread.join(timeout_s)
        if self.is_running:
            logger.warning("%s did not take all records in time", self._name)

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            batch, came_of_it = waiting
            came_of_it.set_result(self._give(batch))
        self._sink.close()

    def _give(self, batch: _Batch) -> Exception | None:
        try:
            records = batch.records()
        except Exception as exc:  # a bug; the answer has long been given
            logger.exception("making records for %s failed", self._name)
            self._count(self._name, "batch", "failed")
            return exc
        failure: Exception | None = None
        for record in records:
            failure = self._give_one(record) or failure
        return failure

    def _give_one(self, record: Record) -> Exception | None:
        try:
            _dispatch(self._sink, record)
        except Exception as exc:  # whatever a sink does, the others and the answers go on
            self._count(self._name, record.kind, "failed")
            self._note(exc)
            return exc
        self._count(self._name, record.kind, "written")
        self._note(None)
        return None

    def _note(self, failure: Exception | None) -> None:
        """Say once that it fails, and once that it works again."""
        if failure is not None and not self._failing:
            logger.warning("records don't reach %s: %s", self._name, failure)
        elif failure is None and self._failing:
            logger.info("records reach %s again", self._name)
        self._failing = failure is not None


def _dispatch(sink: Sink, record: Record) -> None:
    match record:
        case Interaction():
            sink.interaction(record)
        case Rating():
            sink.rating(record)
        case ToolRun():
            sink.tool_run(record)
