"""Opens the SDK's client to a server of any kind, and tells when its stream has ended.

Translates nothing: what goes wrong is raised as the SDK raises it, often as a group.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeAlias

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    CallToolResult,
    Implementation,
    ServerNotification,
    ToolListChangedNotification,
)

import qwenkit
from qwenkit.mcp.client.addresses import AddressGuard
from qwenkit.mcp.client.config import HttpServer, ServerConfig, StdioServer
from qwenkit.mcp.client.http import CONNECT_S, http_client
from qwenkit.mcp.client.stderr import StderrLog

Mode: TypeAlias = Literal["auto", "legacy"]
Streams: TypeAlias = tuple[Any, Any]

MAX_EVENT_BYTES = 16 * 2**20
SSE_SILENCE_S = 3600.0
"""Seconds after which a stream that says nothing is taken for dead; keep-alives count."""


@asynccontextmanager
async def open_client(
    server: ServerConfig,
    *,
    mode: Mode,
    guard: AddressGuard | None,
    stderr: StderrLog,
    on_end: Callable[[], None],
    on_tools_changed: Callable[[], None],
) -> AsyncIterator[Client]:
    """A client that has shaken hands with the server.

    Args:
        mode: `auto` tries the newest protocol first; `legacy` begins with the older handshake.
        guard: Checks every address that is connected to; None trusts them all.
        stderr: Gets what a started program writes there.
        on_end: Called when the server's stream has ended.
        on_tools_changed: Called when the server says that its tools have changed.
    """

    async def on_message(message: ServerNotification | Exception) -> None:
        if isinstance(message, ToolListChangedNotification):
            on_tools_changed()

    transport = _Watched(_transport(server, guard, stderr), on_end)
    async with Client(
        transport,
        mode=mode,
        message_handler=on_message,
        client_info=Implementation(name="qwenkit", version=qwenkit.__version__),
        cache=None,
    ) as client:
        # The SDK holds results to the server's own schema, on the event loop: a pattern that a
        # stranger wrote could keep it busy for ever, and a model can judge a text without it.
        client.session.validate_tool_result = _take_as_it_is  # type: ignore[method-assign]
        yield client


async def _take_as_it_is(name: str, result: CallToolResult) -> None:
    pass


def _transport(
    server: ServerConfig, guard: AddressGuard | None, stderr: StderrLog
) -> AbstractAsyncContextManager[Streams]:
    if isinstance(server, StdioServer):
        return _stdio(server, stderr)
    return _sse(server, guard) if server.kind == "sse" else _streamable(server, guard)


@asynccontextmanager
async def _stdio(server: StdioServer, stderr: StderrLog) -> AsyncIterator[Streams]:
    parameters = StdioServerParameters(
        command=server.command, args=list(server.args), env=dict(server.env), cwd=server.cwd
    )
    async with stderr.taking() as errlog, stdio_client(parameters, errlog) as streams:
        yield streams


@asynccontextmanager
async def _streamable(server: HttpServer, guard: AddressGuard | None) -> AsyncIterator[Streams]:
    async with (
        http_client(server.url, server.headers, guard) as http,
        streamable_http_client(
            server.url, http_client=http, max_sse_event_size=MAX_EVENT_BYTES
        ) as streams,
    ):
        yield streams


@asynccontextmanager
async def _sse(server: HttpServer, guard: AddressGuard | None) -> AsyncIterator[Streams]:
    def make(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,  # noqa: ARG001  (the SDK's signature)
    ) -> httpx2.AsyncClient:
        return http_client(server.url, headers or {}, guard, timeout)

    async with sse_client(
        server.url,
        headers=dict(server.headers),
        timeout=CONNECT_S,
        sse_read_timeout=SSE_SILENCE_S,
        httpx_client_factory=make,
    ) as streams:
        yield streams


class _Watched:
    """A transport whose read stream tells when it has ended."""

    def __init__(
        self, inner: AbstractAsyncContextManager[Streams], on_end: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._on_end = on_end

    async def __aenter__(self) -> Streams:
        reading, writing = await self._inner.__aenter__()
        return _WatchedStream(reading, self._on_end), writing

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await self._inner.__aexit__(*exc_info)


class _WatchedStream:
    def __init__(self, inner: Any, on_end: Callable[[], None]) -> None:
        self._inner = inner
        self._on_end = on_end

    @property
    def last_context(self) -> Any:
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Any:
        return await self._watch(self._inner.receive)

    def __aiter__(self) -> _WatchedStream:
        return self

    async def __anext__(self) -> Any:
        return await self._watch(self._inner.__anext__)

    async def _watch(self, receive: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await receive()
        except BaseException:
            self._on_end()
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> _WatchedStream:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        left: bool | None = await self._inner.__aexit__(*exc_info)
        return left
