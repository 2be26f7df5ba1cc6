"""Server-sent events: one write for all that is ready, pings in silence, no work for nobody.

Knows ASGI and asyncio; not what the chunks mean. The status line waits for the first chunk, so a
request that fails before it gets a proper HTTP error; only a prompt that takes longer than the
ping interval gets its headers earlier.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qwenkit.server.disconnect import wait_for_disconnect
from qwenkit.server.errors import ClientGone, failure

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


class EventStream(Response):
    """A response made of chunks that are server-sent events already.

    Args:
        chunks: Closed at once when the client goes away.
        ping_s: Seconds of silence after which a ping is sent.
        ping: A comment, or an event where the clients know one.
    """

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[bytes], *, ping_s: float, ping: bytes = PING) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["Content-Length"]
        self._chunks = chunks
        self._ping_s = ping_s
        self._ping = ping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the chunks as they come."""
        outbox = _Outbox(self._ping_s, self._ping)
        filling = asyncio.create_task(outbox.fill(self._chunks))
        watching = asyncio.create_task(wait_for_disconnect(receive))
        watching.add_done_callback(lambda _: filling.cancel())
        try:
            await self._write(outbox, send)
        finally:
            watching.cancel()
            filling.cancel()
            await asyncio.wait({watching, filling})

    async def _write(self, outbox: _Outbox, send: Send) -> None:
        started = False
        while chunk := await outbox.take():
            if not started:
                start = {"status": self.status_code, "headers": self.raw_headers}
                await send({"type": "http.response.start", **start})
                started = True
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not started:
            raise outbox.error or ClientGone("the client closed the connection")
        last = _error_event(outbox.error) if outbox.error else b""
        await send({"type": "http.response.body", "body": last, "more_body": False})


def _error_event(exc: Exception) -> bytes:
    body = json.dumps(failure(exc).body, separators=(",", ":"))
    return f"event: error\ndata: {body}\n\n".encode()


class _Outbox:
    """Chunks that wait to be written, and why there will be no more."""

    def __init__(self, ping_s: float, ping: bytes) -> None:
        self.error: Exception | None = None
        self._chunks: list[bytes] = []
        self._ready = asyncio.Event()
        self._closed = False
        self._ping_s = ping_s
        self._ping_event = ping
        self._loop = asyncio.get_running_loop()
        self._taken_at = self._loop.time()
        self._timer = self._loop.call_later(ping_s, self._ping)

    async def fill(self, chunks: AsyncGenerator[bytes]) -> None:
        """Take in every chunk; those that come without a wait are written together."""
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    self._chunks.append(chunk)
                    self._ready.set()
        except Exception as exc:  # answered by the writer: this is the server's boundary
            self.error = exc
        finally:
            self._closed = True
            self._timer.cancel()
            self._ready.set()

    async def take(self) -> bytes:
        """All that is ready, waiting for something; empty when there will be nothing more."""
        if not self._chunks and not self._closed:
            self._ready.clear()
            await self._ready.wait()
        ready = b"".join(self._chunks)
        self._chunks.clear()
        self._taken_at = self._loop.time()
        return ready

    def _ping(self) -> None:
        # One lazy timer: rearming it with every chunk would cost more than the chunk.
        silence_s = self._loop.time() - self._taken_at
        if silence_s >= self._ping_s and not self._chunks:
            self._chunks.append(self._ping_event)
            self._ready.set()
            silence_s = 0.0
        self._timer = self._loop.call_later(max(self._ping_s - silence_s, 0.001), self._ping)
