"""Gives every request an id and tells what it came to. Knows ASGI; nobody who is told.

The id follows the request into every task that it starts.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenkit.server.exchange import Exchange

REQUEST_ID = "X-Request-Id"
_SOUND_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def request_id() -> str | None:
    """The id of the request that this is done for; None where it is done for none."""
    return _current.get()


class Tracing:
    """Echoes a sound `X-Request-Id` or makes one, and measures every request.

    Args:
        app: The application.
        on_begin: Told of every request before it is answered.
        on_end: Each told what every request came to.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        on_begin: Callable[[], None],
        on_end: Sequence[Callable[[Exchange], None]],
    ) -> None:
        self.app = app
        self._on_begin = on_begin
        self._on_end = tuple(on_end)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and measure it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own_id = _request_id(scope)
        _current.set(own_id)
        status = 499  # what proxies log when the client has gone before the answer
        n_received = n_sent = 0
        started_at = time.perf_counter()

        async def counted_receive() -> Message:
            nonlocal n_received
            message = await receive()
            n_received += len(message.get("body", b""))
            return message

        async def traced_send(message: Message) -> None:
            nonlocal status, n_sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = own_id
            n_sent += len(message.get("body", b""))
            await send(message)

        self._on_begin()
        try:
            await self.app(scope, counted_receive, traced_send)
        finally:
            exchange = Exchange(
                method=scope["method"],
                route=route_of(scope),
                status=status,
                seconds=time.perf_counter() - started_at,
                n_received=n_received,
                n_sent=n_sent,
                client=client_of(scope),
            )
            for tell in self._on_end:
                tell(exchange)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SOUND_ID.fullmatch(given) else uuid.uuid4().hex


def route_of(scope: Scope) -> str:
    """The pattern of a request's route, known when it has been answered."""
    # Never the path: a scanner must not make a metric of every URL.
    return getattr(scope.get("route"), "path", "other")


def client_of(scope: Scope) -> str:
    """The address that a request came from; empty where that is not known."""
    client = scope.get("client")
    return str(client[0]) if client else ""
