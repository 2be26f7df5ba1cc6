"""All MCP servers of a process: their connections and their tools. Knows no protocol.

A server that is down, hangs or lies costs an error result and nothing else: every server has a
connection, and every connection a task, of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self

from qwenkit.chat.messages import JsonValue
from qwenkit.errors import InvalidRequest, RemoteUnreachable, UnknownMcpServer
from qwenkit.mcp.client.addresses import AddressGuard
from qwenkit.mcp.client.calls import McpCall, OnCall
from qwenkit.mcp.client.config import HttpServer, ServerConfig
from qwenkit.mcp.client.connection import Connection, Pace
from qwenkit.mcp.client.results import MAX_CHARACTERS, ToolResult, failed
from qwenkit.mcp.client.status import Origin, ServerStatus
from qwenkit.mcp.client.tools import McpTool, ToolNames


class McpConnections:
    """Connections to MCP servers: kept, watched, and made again. An async context manager.

    Belongs to the event loop that it was entered on. Entering does not wait for any server;
    `settled` does.

    Args:
        servers: To connect to.
        added: Servers that were added over the network in an earlier life; guarded.
        guard: Says where servers that are added over the network may be.
        pace: How long things may take, and how often they are tried again.
        max_result_characters: Most text of a result.
        on_call: Told of every call that is over.
    """

    def __init__(
        self,
        servers: Sequence[ServerConfig] = (),
        *,
        added: Sequence[HttpServer] = (),
        guard: AddressGuard | None = None,
        pace: Pace | None = None,
        max_result_characters: int = MAX_CHARACTERS,
        on_call: OnCall | None = None,
    ) -> None:
        self._on_call = on_call
        self._guard = guard or AddressGuard()
        self._pace = pace or Pace()
        self._max_characters = max_result_characters
        self._connections: dict[str, Connection] = {}
        self._names = ToolNames()
        for server in servers:
            self._put(server, "config")
        for server in added:
            if server.name not in self._connections:
                self._put(server, "added")
        self._entered = False

    async def __aenter__(self) -> Self:
        self._entered = True
        for connection in self._connections.values():
            connection.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered = False
        await self.stop()

    async def stop(self) -> None:
        """Leave every server; calls that run end with a result that says so."""
        await asyncio.gather(*(each.close() for each in self._connections.values()))

    async def settled(self) -> None:
        """Return when every server is connected or has failed once."""
        await asyncio.gather(*(each.settled() for each in self._connections.values()))

    async def wake(self, names: Collection[str], *, within_s: float) -> None:
        """Give servers that are down another try; returns when it is over, or the time is."""
        down = [
            each
            for each in self._connections.values()
            if each.name in names and not each.is_connected
        ]
        waking = [asyncio.create_task(each.wake()) for each in down]
        if waking:
            _, late = await asyncio.wait(waking, timeout=within_s)
            for each in late:
                each.cancel()

    def tools(self) -> tuple[McpTool, ...]:
        """The tools of all connected servers, now."""
        up = {each.name for each in self._connections.values() if each.is_connected}
        return tuple(tool for tool in self._known_tools() if tool.server in up)

    def status(self) -> tuple[ServerStatus, ...]:
        """Every server, in the order of the configuration."""
        return tuple(self._status(each) for each in self._connections.values())

    def server(self, name: str) -> ServerStatus:
        """One server.

        Raises:
            UnknownMcpServer: There is none of that name.
        """
        return self._status(self._connection(name))

    async def call(
        self, name: str, arguments: Mapping[str, JsonValue], *, timeout_s: float | None = None
    ) -> ToolResult:
        """Call a tool; whatever goes wrong is a result that says what happened.

        Cancelling the call tells the server, too.

        Args:
            name: As `McpTool.name` has it, or has had it.
            arguments: By its schema.
            timeout_s: Seconds that it may take; None takes the server's own limit.
        """
        self._known_tools()  # names what has just been listed
        server, own_name = self._names.owner(name) or ("", "")
        connection = self._connections.get(server)
        tools = () if connection is None else connection.tools
        tool = next((each for each in tools if each.own_name == own_name), None)
        if connection is None or tool is None:
            return failed(f"there is no tool {name!r}")
        return await self._told(connection, replace(tool, name=name), arguments, timeout_s)

    async def _told(
        self,
        connection: Connection,
        tool: McpTool,
        arguments: Mapping[str, JsonValue],
        timeout_s: float | None,
    ) -> ToolResult:
        """What a call results in; whoever counts calls is told."""
        began = time.perf_counter()
        outcome: Literal["success", "error", "cancelled"] = "cancelled"
        try:
            result = await connection.call(tool, arguments, timeout_s=timeout_s)
            outcome = "error" if result.is_error else "success"
            return result
        finally:
            if self._on_call is not None:
                seconds = time.perf_counter() - began
                self._on_call(
                    McpCall(
                        server=connection.name, tool=tool.name, outcome=outcome, seconds=seconds
                    )
                )

    async def add(self, server: HttpServer) -> ServerStatus:
        """Connect to another server, which must answer; it is kept from then on.

        Raises:
            InvalidRequest: The name is taken, or added servers may not be at that address.
            RemoteUnreachable: It does not answer, or is no MCP server.
        """
        if server.name in self._connections:
            raise InvalidRequest(f"there is a server {server.name!r} already", param="name")
        connection = self._put(server, "added")
        try:
            await self._guard.check_url(server.url, param="url")
            connection.start()
            await connection.settled()
            if not connection.is_connected:
                raise RemoteUnreachable(f"`{server.name}`: {connection.status().explained}")
        except BaseException:
            del self._connections[server.name]
            await connection.close()
            raise
        return self._status(connection)

    async def remove(self, name: str) -> None:
        """Close the connection to a server that was added.

        Raises:
            UnknownMcpServer: There is none of that name.
            InvalidRequest: The operator's configuration names it.
        """
        connection = self._connection(name)
        if connection.origin == "config":
            raise InvalidRequest(
                f"the server {name!r} stands in the configuration",
                param="name",
                hint="take it out of the file of MCP_CONFIG, or set `disabled` there",
            )
        del self._connections[name]
        await connection.close()

    async def test(self, server: HttpServer) -> ServerStatus:
        """Connect to a server, list its tools, and leave it again.

        Raises:
            InvalidRequest: Added servers may not be at that address.
            RemoteUnreachable: It does not answer, or is no MCP server.
        """
        await self._guard.check_url(server.url, param="url")
        connection = self._make(server, "added")
        try:
            connection.start()
            await connection.settled()
            if not connection.is_connected:
                raise RemoteUnreachable(f"`{server.name}`: {connection.status().explained}")
            return replace(connection.status(), tools=ToolNames().name([connection.tools]))
        finally:
            await connection.close()

    async def check(self, name: str) -> ServerStatus:
        """Ask a server for its tools now, connecting anew where that is needed.

        Raises:
            UnknownMcpServer: There is none of that name.
            RemoteUnreachable: It does not answer.
        """
        connection = self._connection(name)
        await connection.refresh()
        return self._status(connection)

    @property
    def added(self) -> tuple[HttpServer, ...]:
        """The servers that were added over the network."""
        found = (each for each in self._connections.values() if each.origin == "added")
        return tuple(each.config for each in found if isinstance(each.config, HttpServer))

    def _known_tools(self) -> tuple[McpTool, ...]:
        # Of servers that are down, too: a tool's name must not change when another server leaves.
        return self._names.name([each.tools for each in self._connections.values()])

    def _status(self, connection: Connection) -> ServerStatus:
        tools = tuple(each for each in self._known_tools() if each.server == connection.name)
        return replace(connection.status(), tools=tools)

    def _connection(self, name: str) -> Connection:
        if name not in self._connections:
            known = ", ".join(self._connections) or "none"
            raise UnknownMcpServer(f"no MCP server {name!r}; there are: {known}", param="name")
        return self._connections[name]

    def _put(self, server: ServerConfig, origin: Origin) -> Connection:
        self._connections[server.name] = self._make(server, origin)
        return self._connections[server.name]

    def _make(self, server: ServerConfig, origin: Origin) -> Connection:
        return Connection(
            server,
            origin=origin,
            guard=self._guard if origin == "added" else None,
            pace=self._pace,
            max_result_characters=self._max_characters,
        )
