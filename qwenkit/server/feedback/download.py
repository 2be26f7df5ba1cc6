"""A file that is sent while it is made, on a thread of its own. Knows ASGI; not what is in it.

Only what the client is about to get is in memory: the thread makes the next piece when the one
before has been taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing
from typing import Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qwenkit.server.disconnect import wait_for_disconnect

PIECE_BYTES = 64 * 1024


class Download(Response):
    """A response of unknown length; `begun` makes one.

    Args:
        first: Its beginning.
        pieces: The rest; closed at once when the client goes away.
        name: What browsers save it as.
        media_type: What it is.
    """

    def __init__(
        self, first: bytes, pieces: AsyncGenerator[bytes], *, name: str, media_type: str
    ) -> None:
        disposition = f'attachment; filename="{name}"'
        headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["Content-Length"]
        self._first = first
        self._pieces = pieces

    @classmethod
    async def begun(
        cls,
        make: Callable[[], Iterator[str]],
        *,
        place: AbstractContextManager[None],
        name: str,
        media_type: str,
    ) -> Self:
        """A file whose beginning is made, so that what can't be made is a proper error.

        Args:
            make: Makes its lines, on a thread.
            place: Held until all is sent.
            name: What browsers save it as.
            media_type: What it is.

        Raises:
            QwenkitError: As `make` raises it.
        """
        pieces = _pieces(make, place)
        first = await anext(pieces, b"")
        return cls(first, pieces, name=name, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        sending = asyncio.create_task(self._send(send))
        watching = asyncio.create_task(wait_for_disconnect(receive))
        try:
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            watching.cancel()
            await asyncio.wait({sending, watching})

    async def _send(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        async with aclosing(self._pieces) as pieces:
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pieces(
    make: Callable[[], Iterator[str]], place: AbstractContextManager[None]
) -> AsyncGenerator[bytes]:
    loop = asyncio.get_running_loop()
    lines = _Lines(make)
    with place:
        thread = ThreadPoolExecutor(1, thread_name_prefix="export")
        try:
            while piece := await loop.run_in_executor(thread, lines.take):
                yield piece
        finally:
            # Behind a piece that is still being made: nobody waits for that.
            thread.submit(lines.close)
            thread.shutdown(wait=False)


class _Lines:
    """Lines in pieces; belongs to one thread."""

    def __init__(self, make: Callable[[], Iterator[str]]) -> None:
        self._make = make
        self._lines: Iterator[str] | None = None

    def take(self) -> bytes:
        """The next piece; empty at the end."""
        if self._lines is None:
            self._lines = self._make()
        piece: list[bytes] = []
        n_bytes = 0
        for line in self._lines:
            piece.append(line.encode("utf-8", "replace"))
            n_bytes += len(piece[-1])
            if n_bytes >= PIECE_BYTES:
                break
        return b"".join(piece)

    def close(self) -> None:
        """Let go of what the lines are made from."""
        close = getattr(self._lines, "close", None)
        if close is not None:
            close()
