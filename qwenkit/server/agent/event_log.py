"""The events of one run, kept for a while so that a client can come back. Knows no LangGraph.

One writer, any number of readers. It holds so many bytes at most and forgets the oldest events
first: who reads too slowly, or comes back too late, goes on with the oldest that is left. That is
sound because every `values` event tells the whole state.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

MAX_BYTES = 8 * 2**20
FROM_THE_START = "-1"


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event.

    Args:
        number: Counts the log's events from 0.
        id: The time in ms and a number, as Redis streams spell it; grows from event to event.
        name: Its kind.
        data: JSON on one line.
    """

    number: int
    id: tuple[int, int]
    name: str
    data: str

    def encode(self, *, with_id: bool) -> bytes:
        """As it goes over the wire."""
        line = f"id: {self.id[0]}-{self.id[1]}\n" if with_id else ""
        return f"{line}event: {self.name}\ndata: {self.data}\n\n".encode()


class EventLog:
    """A bounded log that can be followed while it is written.

    Args:
        max_bytes: Most bytes of data that are kept.

    Attributes:
        n_readers: Who follows it now.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.n_readers = 0
        self._events: deque[Event] = deque()
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._n_written = 0
        self._last_id = (0, 0)
        self._closed = False
        self._changed = asyncio.Event()

    def write(self, name: str, data: str) -> None:
        """Add an event."""
        now_ms = int(time.time() * 1000)
        earlier_ms, number = self._last_id
        self._last_id = (now_ms, 0) if now_ms > earlier_ms else (earlier_ms, number + 1)
        self._events.append(Event(self._n_written, self._last_id, name, data))
        self._n_written += 1
        self._n_bytes += len(data)
        while self._n_bytes > self._max_bytes and len(self._events) > 1:
            self._n_bytes -= len(self._events.popleft().data)
        self._wake()

    def close(self, *, forget: bool = False) -> None:
        """Let readers end when they have read everything.

        Args:
            forget: Keep nothing for readers that come later.
        """
        self._closed = True
        self._wake()
        if forget:
            self._events = deque()
            self._n_bytes = 0

    def follow(self, after: str | None) -> AsyncGenerator[Event, None]:
        """The events behind an id, and then those to come; None is only those to come."""
        if after is None:
            return self._follow(self._n_written, self._events)
        last = _read_id(after)
        first = next((each.number for each in self._events if each.id > last), self._n_written)
        return self._follow(first, self._events)

    async def _follow(self, number: int, events: deque[Event]) -> AsyncGenerator[Event, None]:
        # `events` outlives `forget`: a reader that is there already reads to the end.
        self.n_readers += 1
        try:
            while True:
                changed = self._changed
                for event in [each for each in events if each.number >= number]:
                    number = event.number + 1
                    yield event
                if self._closed and number >= self._n_written:
                    return
                if changed is self._changed:
                    await changed.wait()
        finally:
            self.n_readers -= 1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _read_id(text: str) -> tuple[int, int]:
    """The id that a client saw last; everything is behind one that can't be read."""
    milliseconds, _, number = text.partition("-")
    if not (milliseconds.isdecimal() and len(milliseconds) < 20):
        return (-1, 0)
    return (int(milliseconds), int(number) if number.isdecimal() and len(number) < 20 else 0)
