"""Failures in Anthropic's shape, on Anthropic's routes. Knows ASGI and paths; no conversation.

`{"type": "error", "error": {"type", "message"}, "request_id"}`, wherever on the way a request
fails: at the key, at its size, in its route or in mid-stream.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenkit.server.errors import Failure, errors_spelled
from qwenkit.server.tracing import request_id

PATH = "/v1/messages"
REQUEST_ID = "Request-Id"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_INDEX = re.compile(r"\[(\d+)\]")


class AnthropicErrors:
    """Lets failures on Anthropic's routes be told as its clients know them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http" or not is_anthropic(scope["path"]):
            await self.app(scope, receive, send)
            return

        async def named_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id() or ""
            await send(message)

        with errors_spelled(anthropic_error):
            await self.app(scope, receive, named_send)


def is_anthropic(path: str) -> bool:
    """Whether a path is one of Anthropic's API."""
    return path == PATH or path.startswith(f"{PATH}/")


def anthropic_error(failure: Failure) -> dict[str, Any]:
    """A failure's JSON."""
    status = failure.kind.status
    kind = "api_error" if status >= 500 else "invalid_request_error"
    error = {"type": _TYPES.get(status, kind), "message": _message(failure)}
    return {"type": "error", "error": error, "request_id": request_id()}


def _message(failure: Failure) -> str:
    """With the place in front, which has no field of its own: `messages.0.content: …`."""
    if failure.param is None:
        return failure.message
    place = _INDEX.sub(r".\1", failure.param)
    if failure.message.startswith(failure.param):
        return place + failure.message.removeprefix(failure.param)
    return f"{place}: {failure.message}"
