"""Ends work whose client has gone. Knows ASGI's `http.disconnect`; not what the work is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from qwenkit.server.errors import ClientGone

T = TypeVar("T")


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has gone; call it after the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is cancelled when the client goes away.

    Raises:
        ClientGone: It went away.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone("the client closed the connection")
        return await working
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.wait({working, watching})
