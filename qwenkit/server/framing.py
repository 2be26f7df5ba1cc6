"""Refuses requests that end in two places at once. Knows headers of HTTP/1.1; no routes.

Where a proxy believes `Content-Length` and the server `Transfer-Encoding`, what follows the
shorter of the two bodies is a request that the proxy never saw (request smuggling). RFC 9112,
section 6.3, lets a server refuse both together, and the connection must not be used again.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenkit.errors import InvalidRequest
from qwenkit.server.errors import failure


class OneEnd:
    """Answers 400 to a request whose body's end is not certain, and closes its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for requests with one end."""
        if scope["type"] != "http" or not _is_ambiguous(scope):
            await self.app(scope, receive, send)
            return
        error = InvalidRequest(
            "the request has a Transfer-Encoding beside a Content-Length, or beside HTTP/1.0",
            hint="send one of the two headers",
        )
        response = failure(error).response()
        response.headers["Connection"] = "close"
        await response(scope, receive, send)


def _is_ambiguous(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    if "transfer-encoding" not in headers:
        return False
    return "content-length" in headers or scope.get("http_version") == "1.0"
