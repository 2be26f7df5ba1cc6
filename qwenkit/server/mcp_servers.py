"""`/admin/mcp/servers` and `/v1/mcp/tools`: the MCP servers whose tools the model may use.

Only URLs can be added: a program is started for nobody but the operator's own file.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from qwenkit.errors import InvalidRequest
from qwenkit.mcp.client import McpConnections, McpTool, ServerStatus
from qwenkit.mcp.client.added import AddedServers
from qwenkit.mcp.client.config import MAX_SERVERS, HttpServer, server_from
from qwenkit.server.answers import McpServer, McpServerList, ToolServers
from qwenkit.server.auth import require_admin
from qwenkit.server.body import StrictRoute
from qwenkit.server.openapi import fails_with

ADMIN = [Depends(require_admin)]
MAX_URL = 2048
MAX_HEADERS = 32

router = APIRouter(tags=["mcp"], route_class=StrictRoute)


class McpServers:
    """The connections of one server, and the memory of those that were added.

    Args:
        connections: To the servers.
        added: Remembers.
    """

    def __init__(self, connections: McpConnections, added: AddedServers) -> None:
        self.connections = connections
        self._added = added
        self._lock = asyncio.Lock()

    async def add(self, server: HttpServer) -> ServerStatus:
        """Connect to a server and remember it; raises as `McpConnections.add` does."""
        async with self._lock:
            if len(self.connections.status()) >= MAX_SERVERS:
                raise InvalidRequest(f"there are {MAX_SERVERS} servers already", param="name")
            status = await self.connections.add(server)
            await self._remember()
            return status

    async def remove(self, name: str) -> None:
        """Leave a server that was added and forget it; raises as `McpConnections.remove` does."""
        async with self._lock:
            await self.connections.remove(name)
            await self._remember()

    async def _remember(self) -> None:
        await asyncio.to_thread(self._added.save, self.connections.added)


def _servers_of(request: Request) -> McpServers:
    servers: McpServers = request.app.state.mcp_servers
    return servers


Servers = Annotated[McpServers, Depends(_servers_of)]


class ServerBody(BaseModel):
    """The body of `POST /admin/mcp/servers`."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What the server is called."""
    url: Annotated[str, Field(max_length=MAX_URL)]
    """Its address; it must be on the public internet, or in one of MCP_ALLOWED_NETWORKS."""
    type: Literal["http", "streamable-http", "sse"] | None = None
    """How it is spoken to; absent goes by the URL."""
    headers: Annotated[dict[str, str], Field(max_length=MAX_HEADERS)] | None = None
    """Sent with every request, such as `Authorization`."""
    always_allow: list[str] | None = None
    """Tools that run without asking; `*` is all of them."""
    timeout: float | None = None
    """Seconds that a call may take."""

    def server(self) -> HttpServer:
        """The server that it describes.

        Raises:
            InvalidRequest: A field is wrong.
        """
        values = {
            "type": self.type,
            "url": self.url,
            "headers": self.headers,
            "alwaysAllow": self.always_allow,
            "timeout": self.timeout,
        }
        mistakes: list[str] = []
        given = {key: value for key, value in values.items() if value is not None}
        server = server_from(self.name, given, mistakes)
        if not isinstance(server, HttpServer):
            place = f"mcpServers.{self.name}"
            wrong = mistakes[0].removeprefix(f"{place}.").removeprefix(f"{place} ")
            raise InvalidRequest(wrong, param=wrong.split(" ")[0])
        return server


@router.get(
    "/v1/mcp/tools",
    summary="The tools of the MCP servers",
    responses={200: {"model": ToolServers}},
)
async def list_tools(servers: Servers) -> dict[str, Any]:
    """Every server that is not disabled, whether it is connected, and its tools."""
    shown = [each for each in servers.connections.status() if each.state != "disabled"]
    return {
        "servers": [
            {"name": each.name, "state": each.state, "tools": list(map(tool_json, each.tools))}
            for each in shown
        ]
    }


@router.get(
    "/admin/mcp/servers",
    summary="The MCP servers",
    dependencies=ADMIN,
    responses={200: {"model": McpServerList}},
)
async def list_servers(servers: Servers) -> dict[str, Any]:
    """Every server, how it is doing, and its tools."""
    return {"servers": [server_json(each) for each in servers.connections.status()]}


@router.post(
    "/admin/mcp/servers",
    summary="Add an MCP server",
    dependencies=ADMIN,
    responses={200: {"model": McpServer}, **fails_with(502)},
)
async def add_server(body: ServerBody, servers: Servers) -> dict[str, Any]:
    """Connect to a server, which must answer, and keep it."""
    return server_json(await servers.add(body.server()))


@router.post(
    "/admin/mcp/servers/test",
    summary="Try an MCP server",
    dependencies=ADMIN,
    responses={200: {"model": McpServer}, **fails_with(502)},
)
async def test_server(body: ServerBody, servers: Servers) -> dict[str, Any]:
    """Connect to a server, tell what it offers, and leave it again."""
    return server_json(await servers.connections.test(body.server()))


@router.post(
    "/admin/mcp/servers/{name:path}/test",
    summary="Ask an MCP server again",
    dependencies=ADMIN,
    responses={200: {"model": McpServer}, **fails_with(502)},
)
async def check_server(name: str, servers: Servers) -> dict[str, Any]:
    """List a server's tools anew, connecting to it if it was down."""
    return server_json(await servers.connections.check(name))


@router.delete(
    "/admin/mcp/servers/{name:path}",
    summary="Remove an MCP server",
    dependencies=ADMIN,
    responses={200: {"model": McpServer}},
)
async def remove_server(name: str, servers: Servers) -> dict[str, Any]:
    """Leave a server that was added, and forget it."""
    gone = servers.connections.server(name)
    await servers.remove(name)
    return server_json(replace(gone, state="disabled", tools=()))


def server_json(status: ServerStatus) -> dict[str, Any]:
    """A server as the admin routes show it."""
    return {
        "name": status.name,
        "type": status.kind,
        "where": status.where,
        "origin": status.origin,
        "state": status.state,
        "reason": status.explained,
        "since": status.since,
        "software": status.software,
        "protocol": status.protocol,
        "tools": list(map(tool_json, status.tools)),
    }


def tool_json(tool: McpTool) -> dict[str, Any]:
    """A tool as clients see it."""
    return {
        "name": tool.name,
        "server": tool.server,
        "own_name": tool.own_name,
        "title": tool.annotations.title,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "read_only": tool.annotations.read_only,
        "destructive": tool.annotations.destructive,
        "allowed": tool.allowed,
    }
