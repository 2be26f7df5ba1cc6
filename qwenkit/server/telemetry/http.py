"""The span of a request. Knows ASGI; OpenTelemetry's conventions for HTTP servers.

The trace that a request's `traceparent` names goes on here.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenkit.chat.watching import watch_chats
from qwenkit.server.telemetry.export import Telemetry
from qwenkit.server.telemetry.generation import ChatSpan
from qwenkit.server.telemetry.spans import Span, Value, entered
from qwenkit.server.tracing import client_of, request_id, route_of

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
NO_ROUTE = "other"


class RequestSpans:
    """Does every request inside of a span of its own.

    Args:
        app: The application.
        telemetry: Makes the spans.
    """

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside of a span."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        headers = Headers(scope=scope)
        span = self.telemetry.begin(
            method, _known_before(scope, method, headers), kind="server", headers=headers
        )
        status: int | None = None

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        watch_chats(ChatSpan)
        with entered(span):
            try:
                await self.app(scope, receive, watched_send)
            finally:
                _note_end(span, scope, method, status)


def _known_before(scope: Scope, method: str, headers: Headers) -> dict[str, Value]:
    server = scope.get("server") or (None, None)
    return {
        "http.request.method": method,
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version"),
        "server.address": server[0],
        "server.port": server[1],
        "client.address": client_of(scope) or None,
        "user_agent.original": headers.get("user-agent"),
    }


def _note_end(span: Span, scope: Scope, method: str, status: int | None) -> None:
    route = route_of(scope)
    # A path that no route has may be anything, a key that slipped into it included.
    found = route != NO_ROUTE
    if found:
        span.rename(f"{method} {route}")
    span.note(
        {
            "http.route": route if found else None,
            "url.path": scope["path"] if found else None,
            "http.response.status_code": status,
            "qwenkit.request_id": request_id(),
        }
    )
    if status is None:
        span.fail("cancelled")
    elif status >= 500:
        span.fail(str(status))
