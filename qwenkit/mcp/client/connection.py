"""One server: connected, watched, and connected again when it went away. Knows no other server.

    start ─▶ connecting ─▶ connected ─▶ (its stream ends, or it stops answering) ─▶ failed
                 ▲                                                                    │
                 └───────── after a pause that doubles, or at once for a call ────────┘

One task owns the SDK's client from its first byte to its last; calls come from other tasks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import anyio
import httpx2
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST, Tool, ToolAnnotations
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from qwenkit.chat.constraint import can_be_held_to
from qwenkit.chat.messages import JsonValue
from qwenkit.errors import QwenkitError, RemoteUnreachable
from qwenkit.mcp.client.addresses import AddressGuard
from qwenkit.mcp.client.config import ServerConfig
from qwenkit.mcp.client.results import ToolResult, failed, read_result
from qwenkit.mcp.client.status import Origin, ServerStatus, State
from qwenkit.mcp.client.stderr import StderrLog
from qwenkit.mcp.client.tools import Annotations, McpTool, described, one_line, safe
from qwenkit.mcp.client.transport import Mode, open_client

logger = logging.getLogger(__name__)

MAX_TOOLS = 500
MAX_PAGES = 100
MAX_REASON = 500
MAX_TITLE = 200
MAX_OWN_NAME = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things may take, in seconds.

    Args:
        connect_s: Most until a server is there and has told its tools; `npx` may download first.
        list_s: Most until a connected server has told its tools again.
        check_s: Most for a server's schemas; calls are not held to those that are left.
        watch_s: Between two looks at a server that is reached over HTTP, whose end nothing tells.
        between_s: Between two lists, however often a server says that its tools have changed.
        leave_s: Most until a connection that is given up is closed.
        first_pause_s: Before the first new try; it doubles with each.
        most_pause_s: Before any new try.
    """

    connect_s: float = 60.0
    list_s: float = 30.0
    check_s: float = 5.0
    watch_s: float = 60.0
    between_s: float = 1.0
    leave_s: float = 5.0
    first_pause_s: float = 1.0
    most_pause_s: float = 60.0

    def pause_s(self, n_failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.most_pause_s, self.first_pause_s * 2.0 ** min(n_failures - 1, 30))


class Connection:
    """A connection to one server.

    Args:
        config: Where it is and what it may do.
        origin: Who named it.
        guard: Checks every address that is connected to; None trusts them all.
        pace: How long things may take.
        max_result_characters: Most text of a result.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        origin: Origin,
        guard: AddressGuard | None,
        pace: Pace,
        max_result_characters: int,
    ) -> None:
        self.config = config
        self.name = config.name
        self.origin = origin
        self.reason = self._last_words = ""
        self.tools: tuple[McpTool, ...] = ()
        self._known: dict[str, tuple[Tool, McpTool]] = {}
        self._guard = guard
        self._pace = pace
        self._max_characters = max_result_characters
        self._state: State = "disabled" if config.disabled else "connecting"
        self._since = time.time()
        self._client: Client | None = None
        self._mode: Mode = "auto"
        self._stderr = StderrLog(config.name)
        self._task: asyncio.Task[None] | None = None
        self._scope: anyio.CancelScope | None = None  # can't be made before the loop runs
        self._closing = False
        self._settled = asyncio.Event()
        self._lost = asyncio.Event()
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._software = self._protocol = ""

    @property
    def is_connected(self) -> bool:
        """Whether its tools can be called now."""
        return self._client is not None

    def status(self) -> ServerStatus:
        """How it is doing; its tools have no names of their own yet."""
        return ServerStatus(
            name=self.name,
            kind=self.config.kind,
            where=self.config.where,
            origin=self.origin,
            state=self._state,
            reason=self.reason,
            last_words=self._last_words,
            since=self._since,
            software=self._software,
            protocol=self._protocol,
            tools=self.tools,
        )

    def start(self) -> None:
        """Begin to connect; a server that is disabled stays alone."""
        if self.config.disabled:
            self._settled.set()
        else:
            self._task = asyncio.create_task(self._run(), name=f"mcp {self.name}")

    async def settled(self) -> None:
        """Return when it is connected or the try that runs has failed."""
        await self._settled.wait()

    async def wake(self) -> None:
        """Return when it is connected, or another try has failed; one that is off stays so."""
        if self._client is None and self._task is not None and not self._closing:
            if self._state == "failed":
                self._settled.clear()
                self._hurry.set()
            await self._settled.wait()

    async def close(self) -> None:
        """Leave the server and forget it."""
        self._closing = True
        self._hurry.set()
        if self._scope is not None:
            self._scope.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def refresh(self) -> None:
        """Ask for its tools now, connecting anew where that is needed.

        Raises:
            RemoteUnreachable: It does not answer, or is disabled.
        """
        client = await self._connected()
        try:
            async with asyncio.timeout(self._pace.list_s):
                await self._list(client)
        except Exception as exc:  # the SDK raises whatever a strange server makes it raise
            self._lose(client, explain(exc))
            raise RemoteUnreachable(f"the MCP server `{self.name}`: {explain(exc)}") from exc

    async def call(
        self, tool: McpTool, arguments: Mapping[str, JsonValue], *, timeout_s: float | None
    ) -> ToolResult:
        """Call one of its tools; a failure is a result that says what happened."""
        limit_s = self.config.timeout_s if timeout_s is None else timeout_s
        if not _can_be_sent(arguments):
            return failed(f"`{tool.name}` was not called: its arguments can't be sent as JSON")
        try:
            async with asyncio.timeout(limit_s):
                return await self._call(tool, dict(arguments))
        except TimeoutError:
            return failed(f"`{tool.name}` did not answer within {limit_s:g} s")
        except RemoteUnreachable as exc:
            return failed(exc.message)

    async def _call(self, tool: McpTool, arguments: dict[str, JsonValue]) -> ToolResult:
        client = await self._connected()
        try:
            return await self._call_with(client, tool, arguments)
        except MCPError as exc:
            if not self._may_try_again(client, exc, tool):
                return failed(f"`{tool.name}`: {self._told(exc)}")
        client = await self._connected()
        try:
            return await self._call_with(client, tool, arguments)
        except MCPError as exc:
            return failed(f"`{tool.name}`: {self._told(exc)}")

    async def _call_with(
        self, client: Client, tool: McpTool, arguments: dict[str, JsonValue]
    ) -> ToolResult:
        try:
            result = await client.call_tool(tool.own_name, arguments)
        except MCPError:
            raise
        except Exception as exc:  # the SDK raises whatever a strange server makes it raise
            return failed(f"`{tool.name}`: {explain(exc)}")
        return read_result(result, max_characters=self._max_characters)

    def _may_try_again(self, client: Client, error: MCPError, tool: McpTool) -> bool:
        """Whether a call that failed has changed nothing; the connection is then made anew."""
        if error.code == INVALID_REQUEST and self.config.kind != "stdio":
            # How a server that was started anew answers those whose session it does not know.
            self._lose(client, self._told(error))
            return True
        if error.code != CONNECTION_CLOSED:
            return False
        self._lose(client, "the connection broke")
        return tool.annotations.read_only or tool.annotations.idempotent

    def _told(self, error: MCPError) -> str:
        if error.code == CONNECTION_CLOSED:
            return "the connection to its server broke; whether it has run is not known"
        return one_line(error.message, MAX_REASON)

    async def _connected(self) -> Client:
        """The client, after another try where the server is down.

        Raises:
            RemoteUnreachable: It is down, or disabled.
        """
        await self.wake()
        if self._client is None:
            why = self.reason or self._state
            raise RemoteUnreachable(f"the MCP server `{self.name}` is not connected: {why}")
        return self._client

    async def _run(self) -> None:
        n_failures = 0
        logged = ""
        while not self._closing:
            self._become("connecting")
            was_connected = await self._live()
            self._become("failed")
            why = self.status().explained
            if why != logged and not self._closing:
                logger.warning("the MCP server %s failed: %s", self.name, why)
                logged = why
            n_failures = 1 if was_connected else n_failures + 1
            if not self._hurry.is_set():
                self._settled.set()
                await self._pause(self._pace.pause_s(n_failures))
            self._hurry.clear()
        self._settled.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def _live(self) -> bool:
        """One connection from its beginning to its end; returns whether there was one."""
        self._lost.clear()
        self._changed.clear()
        deadline = anyio.current_time() + self._pace.connect_s
        connected = False
        self._scope = scope = anyio.CancelScope(deadline=deadline)
        try:
            with scope:
                async with open_client(
                    self.config,
                    mode=self._mode,
                    guard=self._guard,
                    stderr=self._stderr,
                    on_end=self._lost.set,
                    on_tools_changed=self._changed.set,
                ) as client:
                    await self._list(client)
                    scope.deadline = math.inf
                    connected = True
                    self._welcome(client)
                    await self._stay(client)
                    scope.deadline = anyio.current_time() + self._pace.leave_s
        except Exception as exc:  # the SDK raises whatever a strange server makes it raise
            self._blame(explain(exc))
        finally:
            self._client = None
        if scope.cancelled_caught and not connected:
            self._blame(f"no answer within {self._pace.connect_s:g} s")
            # It may be one that never answers the newer protocol's first question.
            self._mode = "legacy" if self._mode == "auto" else "auto"
        return connected

    def _welcome(self, client: Client) -> None:
        info = client.server_info
        self._software = one_line(f"{info.name} {info.version}".strip(), MAX_TITLE) if info else ""
        self._protocol = client.protocol_version
        self.reason = self._last_words = ""
        self._client = client
        self._become("connected")
        self._settled.set()
        logger.info("the MCP server %s is connected, %d tools", self.name, len(self.tools))

    async def _stay(self, client: Client) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, client)
            if _tells_changes_on_request(client):
                tasks.start_soon(self._listen, client)
            await self._lost.wait()
            tasks.cancel_scope.cancel()
        if not self.reason:
            self._blame("it ended the connection")

    async def _watch(self, client: Client) -> None:
        """List the tools when they change, and where nothing tells that, every now and then."""
        watch_s = math.inf if self.config.kind == "stdio" else self._pace.watch_s
        while True:
            with anyio.move_on_after(watch_s):
                await self._changed.wait()
            self._changed.clear()
            try:
                with anyio.fail_after(self._pace.list_s):
                    await self._list(client)
            except Exception as exc:  # the SDK raises whatever a strange server makes it raise
                self._lose(client, explain(exc))
                return
            await anyio.sleep(self._pace.between_s)

    async def _listen(self, client: Client) -> None:
        while True:
            # What ends the stream is seen by `_watch`, or told by the connection's own end.
            with suppress(Exception):
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._changed.set()
            await anyio.sleep(self._pace.watch_s)

    async def _list(self, client: Client) -> None:
        if client.server_capabilities.tools is None:
            self.tools = ()
            return
        found: list[Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None or len(found) >= MAX_TOOLS:
                break
        once = {each.name: each for each in found if len(each.name) <= MAX_OWN_NAME}
        shown = [each for each in once.values() if each.name not in self.config.hidden][:MAX_TOOLS]
        # Checking hundreds of schemas takes a while: it must not hold up the loop's streams.
        tools = await asyncio.to_thread(self._read, shown)
        if tools != self.tools:
            self.tools = tools

    def _read(self, listed: Sequence[Tool]) -> tuple[McpTool, ...]:
        """The tools in our form; those that are as they were are not checked again."""
        until = time.monotonic() + self._pace.check_s
        known, read = self._known, dict[str, tuple[Tool, McpTool]]()

        def can_hold(schema: Mapping[str, JsonValue]) -> bool:
            # A thread can't be cancelled, and the program's end waits for it.
            return not self._closing and time.monotonic() < until and can_be_held_to(schema)

        for each in listed:
            before, tool = known.get(each.name, (None, None))
            if tool is None or before != each:
                tool = self._tool(each, can_hold)
            read[each.name] = each, tool
        self._known = read
        return tuple(tool for _, tool in read.values())

    def _tool(self, tool: Tool, can_hold: Callable[[Mapping[str, JsonValue]], bool]) -> McpTool:
        description, parameters = described(
            tool.description or tool.title or "", tool.input_schema, can_hold=can_hold
        )
        return McpTool(
            server=self.name,
            name=safe(tool.name),
            own_name=tool.name,
            description=description,
            parameters=parameters,
            annotations=_annotations(tool),
            allowed=self.config.allows(tool.name),
        )

    def _lose(self, client: Client, reason: str) -> None:
        """Give a client up and connect anew at once; one that was given up already stays so."""
        if self._client is not client:
            return
        self.reason = reason
        self._client = None
        self._settled.clear()
        self._lost.set()
        self._hurry.set()

    def _become(self, state: State) -> None:
        if state != self._state:
            self._since = time.time()
        self._state = state

    def _blame(self, reason: str) -> None:
        self.reason, self._last_words = reason, one_line(self._stderr.last, MAX_REASON)


def _can_be_sent(arguments: Mapping[str, JsonValue]) -> bool:
    """Whether arguments are JSON; what is not, half a surrogate pair say, ends a connection."""
    try:
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _tells_changes_on_request(client: Client) -> bool:
    tools = client.server_capabilities.tools
    is_modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
    return is_modern and tools is not None and bool(tools.list_changed)


def _annotations(tool: Tool) -> Annotations:
    given = tool.annotations or ToolAnnotations()
    return Annotations(
        title=one_line(tool.title or given.title or "", MAX_TITLE),
        read_only=bool(given.read_only_hint),
        destructive=given.destructive_hint is not False,
        idempotent=bool(given.idempotent_hint),
        open_world=given.open_world_hint is not False,
    )


def explain(error: BaseException) -> str:
    """Why a server could not be used, in one sentence."""
    cause = _innermost(error)
    match cause:
        case QwenkitError():
            return cause.message
        case MCPError():
            return one_line(cause.message, MAX_REASON)
        case FileNotFoundError():
            return f"there is no program `{cause.filename}`"
        case OSError():
            return cause.strerror or str(cause)
        case TimeoutError():
            return "it did not answer in time"
        case httpx2.HTTPStatusError():
            return f"it answered {cause.response.status_code}"
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return "nothing answers there"
    return one_line(str(cause) or type(cause).__name__, MAX_REASON)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error
