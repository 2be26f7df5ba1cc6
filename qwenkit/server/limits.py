"""Refuses requests over a size: headers, and bodies, declared or not. Knows ASGI; no routes."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenkit.server.errors import BodyTooLarge, HeadTooLarge, failure

MAX_HEAD_BYTES = 64 * 2**10
"""Of the path and all headers; most servers have less."""


class HeadLimit:
    """Answers 431 to more headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for a bounded head."""
        if scope["type"] == "http" and _head_bytes(scope) > MAX_HEAD_BYTES:
            error = HeadTooLarge(f"the headers have over {MAX_HEAD_BYTES} bytes")
            await failure(error).response()(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class BodyLimit:
    """Answers 413 to a larger body: at once where its length is declared, else once there."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a bounded body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _declared_length(scope) > self.max_bytes:
            await failure(self._too_large()).response()(scope, receive, send)
        else:
            await self.app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        n_received = 0

        async def bounded_receive() -> Message:
            nonlocal n_received
            message = await receive()
            n_received += len(message.get("body", b""))
            if n_received > self.max_bytes:
                raise self._too_large()
            return message

        return bounded_receive

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body has over {self.max_bytes} bytes",
            hint="shorten it, or serve with a larger MAX_REQUEST_BYTES",
        )


def _declared_length(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared[:18]) if declared.isdecimal() else 0


def _head_bytes(scope: Scope) -> int:
    n_headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return n_headers + len(scope["path"]) + len(scope["query_string"])
