"""Gives every request an id and measures how long its answer took. Knows ASGI and metrics.

The id follows the request into every task that it starts.
"""

from __future__ import annotations

import re
import time
import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenkit.server.metrics import Metrics

REQUEST_ID = "X-Request-Id"
_SOUND_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def request_id() -> str | None:
    """The id of the request that this is done for; None where it is done for none."""
    return _current.get()


class Tracing:
    """Echoes a sound `X-Request-Id` or makes one, and reports every request to the metrics."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and measure it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own_id = _request_id(scope)
        _current.set(own_id)
        status = 499  # what proxies log when the client has gone before the answer
        started_at = time.perf_counter()

        async def traced_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = own_id
            await send(message)

        try:
            await self.app(scope, receive, traced_send)
        finally:
            seconds = time.perf_counter() - started_at
            self.metrics.on_request(route=_route(scope), status=status, seconds=seconds)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SOUND_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: Scope) -> str:
    # The route's pattern and never the path: a scanner must not make a metric of every URL.
    return getattr(scope.get("route"), "path", "other")
