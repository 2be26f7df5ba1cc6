"""`/mcp`: our model over MCP, in streamable HTTP. Knows the SDK's session manager and leases.

Keys and host names are checked before it, as for every route (`auth.py`, `origins.py`); the
protocol wants the Origin header checked as well, which is done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from qwenkit.chat.completion import stream_chat
from qwenkit.chat.events import ChatEvent
from qwenkit.errors import EngineStopped
from qwenkit.feedback.capture import Asked, ChatCapture
from qwenkit.mcp.server.asking import reply_of
from qwenkit.mcp.server.build import OnTool, build_server
from qwenkit.mcp.server.feedback_log import IndexedFeedback
from qwenkit.mcp.server.local import chat_options, offered, offered_adapter
from qwenkit.mcp.server.offer import OfferedModel, OnTokens, Question, Reply
from qwenkit.server.adapters import Adapters
from qwenkit.server.auth import Role
from qwenkit.server.errors import Forbidden, failure
from qwenkit.server.feedback.service import Feedback
from qwenkit.server.openai.wire import make_id
from qwenkit.server.origins import host_name, is_address
from qwenkit.server.recording import Recorder, recorded
from qwenkit.server.serving import Serving

PATH = "/mcp"
METHODS = ("GET", "POST", "DELETE")
MAX_SESSIONS = 1000


class ServedHost:
    """The served model as the MCP server's host.

    Args:
        serving: The server's models.
        adapters: The server's adapters.
        recorder: Keeps what is answered.
    """

    def __init__(self, serving: Serving, adapters: Adapters, recorder: Recorder) -> None:
        self._serving = serving
        self._adapters = adapters
        self._recorder = recorder

    async def ask(self, question: Question, on_tokens: OnTokens) -> Reply:
        """The model's answer; cancelling it frees the model."""
        async with self._serving.lease_when_open() as lease:
            model = lease.named(question.model)
            options = chat_options(question, lease.limits.thinking_budget)
            events: AsyncGenerator[ChatEvent]
            if not self._recorder.wants(None):
                events = stream_chat(model, question.messages(), (), options)
                return await reply_of(events, model.name, on_tokens)
            asked = Asked(id=make_id("chatcmpl"), source="mcp", model=lease.model.name)
            capture = ChatCapture(asked, model)
            events = stream_chat(model, question.messages(), (), options, on_prepared=capture.begin)
            taken_down = recorded(events, capture, self._recorder)
            return replace(await reply_of(taken_down, model.name, on_tokens), id=asked.id)

    async def models(self) -> tuple[OfferedModel, ...]:
        """The model and its adapters."""
        return offered(self._serving.model)

    async def load_adapter(self, name: str, path: Path, *, replace: bool) -> OfferedModel:
        """Load an adapter from one of the folders that adapters may come from."""
        return offered_adapter(await self._adapters.load(name, path, replace=replace))


class McpMount:
    """The MCP endpoint of one server.

    Args:
        host: Has the model.
        feedback: Has the log.
        origins: Web origins besides the server's own that may call it; `*` is any.
        max_body_bytes: Largest request body.
        on_tool: Told of every call of a tool that is over.
    """

    def __init__(
        self,
        host: ServedHost,
        *,
        feedback: Feedback,
        origins: Iterable[str],
        max_body_bytes: int,
        on_tool: OnTool,
    ) -> None:
        log = IndexedFeedback(feedback.look_up)
        self._manager = StreamableHTTPSessionManager(
            build_server(host, is_admin=_is_admin, feedback=log, on_tool=on_tool),
            max_request_body_size=max_body_bytes,
            max_sessions=MAX_SESSIONS,
        )
        self._origins = frozenset(origins)
        self._stopping = asyncio.Event()
        self._is_open = False

    def route(self) -> Route:
        """Where it is found."""
        return _NamedRoute(PATH, endpoint=self, methods=METHODS, name="mcp")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep its sessions as long as the context is open."""
        opened = asyncio.Event()
        serving = asyncio.create_task(self._serve(opened), name="mcp sessions")
        await opened.wait()
        try:
            yield
        finally:
            await self.stop()
            await serving

    async def stop(self) -> None:
        """End every session; requests from now on are told that the server is stopping."""
        self._is_open = False
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = Headers(scope=scope)
        if not self._is_open:
            stopping = EngineStopped("the server is shutting down")
            await failure(stopping).response()(scope, receive, send)
        elif not self._may_come_from(headers.get("origin", ""), headers.get("host", "")):
            stranger = Forbidden(
                "the Origin header names another web site", hint="name it in CORS_ORIGINS"
            )
            await failure(stranger).response()(scope, receive, send)
        else:
            await self._manager.handle_request(scope, receive, send)

    async def _serve(self, opened: asyncio.Event) -> None:
        # The SDK's task group must be entered and left by one task, and left before the server
        # has closed its connections: streams that stay open would hold up its end.
        async with self._manager.run():
            self._is_open = True
            opened.set()
            await self._stopping.wait()

    def _may_come_from(self, origin: str, host: str) -> bool:
        if not origin or origin in self._origins or "*" in self._origins:
            return True
        name = host_name(origin)
        return name == "localhost" or _is_loopback(name) or name == host_name(f"//{host}")


class _NamedRoute(Route):
    """Tells its pattern to those who measure and log, as FastAPI's routes do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}


def _is_loopback(name: str) -> bool:
    return is_address(name) and (name.startswith("127.") or name == "::1")


def _is_admin(ctx: ServerRequestContext[Any, Any]) -> bool:
    request: Request | None = ctx.request
    return request is not None and request.scope["state"]["role"] >= Role.ADMIN
