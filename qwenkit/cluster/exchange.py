"""Runs an ASGI application for a request that came as a value, and gives its answer as values.

Knows ASGI and `ask`; nothing of Ray. Closing the iterator is the client's leaving.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp
from starlette.types import Message as AsgiMessage

from qwenkit.cluster.ask import Ask, Body, Head

LEAVE_S = 30.0
"""Seconds that the application gets to notice that the client has left."""


async def exchange(app: ASGIApp, ask: Ask) -> AsyncGenerator[Head | Body, None]:
    """An application's answer; what has piled up of it comes as one `Body`."""
    outgoing: asyncio.Queue[AsgiMessage | None] = asyncio.Queue()
    left = asyncio.Event()
    incoming: list[AsgiMessage] = [{"type": "http.request", "body": ask.body, "more_body": False}]

    async def receive() -> AsgiMessage:
        if incoming:
            return incoming.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        try:
            await app(_scope(ask), receive, _put(outgoing))
        finally:
            outgoing.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        async for part in _parts(outgoing):
            yield part
        await running
    finally:
        left.set()
        await _end(running)


def _put(outgoing: asyncio.Queue[AsgiMessage | None]) -> Any:
    async def send(message: AsgiMessage) -> None:
        outgoing.put_nowait(message)

    return send


async def _parts(
    outgoing: asyncio.Queue[AsgiMessage | None],
) -> AsyncGenerator[Head | Body, None]:
    pending = b""
    while (message := await outgoing.get()) is not None:
        if message["type"] == "http.response.start":
            yield Head(message["status"], tuple(message.get("headers", ())))
        elif message["type"] == "http.response.body":
            pending += message.get("body", b"")
        if pending and outgoing.empty():
            yield Body(pending)
            pending = b""
    if pending:
        yield Body(pending)


async def _end(running: asyncio.Task[None]) -> None:
    if running.done():
        return
    await asyncio.wait({running}, timeout=LEAVE_S)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def _scope(ask: Ask) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": ask.method,
        "scheme": ask.scheme,
        "path": ask.path,
        "raw_path": ask.raw_path,
        "query_string": ask.query,
        "root_path": "",
        "headers": list(ask.headers),
        "client": ask.client,
        "server": None,
        "state": {},
    }
