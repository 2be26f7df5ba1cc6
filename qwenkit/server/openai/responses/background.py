"""Responses that are written while nobody waits, or while somebody comes and goes.

    start ─▶ queued ─▶ in_progress ─▶ completed | incomplete | failed | cancelled ─▶ kept

Knows tasks and events; no HTTP and no store.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, aclosing
from typing import TypeAlias

from qwenkit.errors import EngineBusy, EngineStopped
from qwenkit.server.errors import failure
from qwenkit.server.openai.responses.kept import JsonObject, KeptResponse
from qwenkit.server.openai.responses.writer import ResponseWriter, StreamEvent

MAX_RUNNING = 64
"""Responses that may be written in the background at once; each holds its events."""
MAX_ENDED = 8
"""Responses that have ended and whose events are still there, for a stream that comes back."""
RETRY_S = 5.0

Keep: TypeAlias = Callable[[KeptResponse], Awaitable[bool]]
AsKept: TypeAlias = Callable[[JsonObject], KeptResponse]
"""Makes of a response what is kept of it."""


class BackgroundRun:
    """One response in the background.

    Args:
        owner: Whose it is.
        writer: Writes it.
        as_kept: Makes what is kept of it.
    """

    def __init__(self, owner: str, writer: ResponseWriter, as_kept: AsKept) -> None:
        self.owner = owner
        self.task: asyncio.Task[None] | None = None
        self._is_writing = True
        self._writer = writer
        self._as_kept = as_kept
        self._events = [event.encode() for event in writer.queue()]
        self._changed = asyncio.Event()
        self._has_ended = False

    def response(self) -> JsonObject:
        """The response as it is now."""
        return self._writer.response()

    def kept(self) -> KeptResponse:
        """What there is now to be kept of it."""
        return self._as_kept(self._writer.response())

    @property
    def was_cut(self) -> bool:
        """Whether it was cancelled."""
        return self._writer.status == "cancelled"

    async def follow(self, after: int = -1) -> AsyncGenerator[bytes]:
        """The events behind a number, and then those to come, as they go over the wire."""
        position = after + 1
        while True:
            changed = self._changed
            while position < len(self._events):
                yield self._events[position]
                position += 1
            if self._has_ended:
                return
            await changed.wait()

    async def write(self, events: AsyncGenerator[StreamEvent], lease: ExitStack) -> None:
        """Write the response to its end, whatever that is."""
        with lease:
            try:
                async with aclosing(events):
                    async for event in events:
                        self._tell(event)
            except asyncio.CancelledError:
                self._writer.cancel()
            except Exception as exc:  # nobody waits for an answer that could say so
                for event in self._writer.fail(failure(exc)):
                    self._tell(event)
            finally:
                self._is_writing = False

    async def cancel(self) -> None:
        """End the writing, and return when that has been taken note of."""
        # A task that is cancelled before its first step would never run at all.
        await asyncio.sleep(0)
        if self.task is None:
            return
        if self._is_writing:
            self._is_writing = False
            self.task.cancel()
        await asyncio.wait({self.task})

    def stop(self) -> None:
        """Take note that the server ended before the answer did."""
        for event in self._writer.fail(failure(EngineStopped("the server has stopped"))):
            self._tell(event)

    def end(self) -> None:
        """Let followers end."""
        self._has_ended = True
        self._wake()

    def _tell(self, event: StreamEvent) -> None:
        self._events.append(event.encode())
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Background:
    """The responses of one server that are written in the background.

    Args:
        keep: Keeps one that has ended.
    """

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._running: dict[str, BackgroundRun] = {}
        self._ended: OrderedDict[str, BackgroundRun] = OrderedDict()
        self._is_closing = False

    def running(self, response_id: str) -> BackgroundRun | None:
        """A response that is still being written."""
        return self._running.get(response_id)

    def followable(self, response_id: str) -> BackgroundRun | None:
        """A response whose events are still there."""
        return self._running.get(response_id) or self._ended.get(response_id)

    def check_room(self) -> None:
        """Refuse one more where there are too many.

        Raises:
            EngineBusy: There are.
        """
        if len(self._running) >= MAX_RUNNING:
            raise EngineBusy(
                f"{MAX_RUNNING} responses are being written in the background",
                retry_after_s=RETRY_S,
                hint="try again later, or without background",
            )

    def start(
        self,
        response_id: str,
        run: BackgroundRun,
        events: AsyncGenerator[StreamEvent],
        lease: ExitStack,
    ) -> None:
        """Write a response.

        Args:
            events: Of its answer; closed when it is cancelled.
            lease: Keeps its model from being freed; closed at its end.
        """
        self._running[response_id] = run
        run.task = asyncio.create_task(self._write(response_id, run, events, lease))

    async def cancel(self, response_id: str) -> None:
        """End a response that is being written, and return when it has."""
        run = self._running.get(response_id)
        if run is not None:
            await run.cancel()

    def forget(self, response_id: str) -> None:
        """Let go of the events of a response that has ended."""
        self._ended.pop(response_id, None)

    async def close(self) -> None:
        """End all that are being written."""
        self._is_closing = True
        await asyncio.gather(*(run.cancel() for run in self._running.values()))

    async def _write(
        self,
        response_id: str,
        run: BackgroundRun,
        events: AsyncGenerator[StreamEvent],
        lease: ExitStack,
    ) -> None:
        await run.write(events, lease)
        if self._is_closing and run.was_cut:
            run.stop()
        try:
            await self._keep(run.kept())
        finally:
            del self._running[response_id]
            self._ended[response_id] = run
            while len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
            run.end()
