"""Our client against npm's `server-everything`, over all three transports.

Needs `node`, and NODE_MODULES: the folder that npm has installed it into.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qwenkit.mcp.client import McpConnections
from qwenkit.mcp.client.config import HttpServer, ServerConfig, StdioServer
from qwenkit.mcp.client.connection import Pace

FOLDER = os.environ.get("NODE_MODULES")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.node,
    pytest.mark.skipif(FOLDER is None, reason="needs NODE_MODULES"),
]

PACE = Pace(connect_s=30, first_pause_s=0.05, most_pause_s=0.1)


def program() -> str:
    path = Path(FOLDER or "", "@modelcontextprotocol/server-everything/dist/index.js")
    assert path.exists(), path
    return str(path)


@contextmanager
def listening(transport: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    environment = os.environ | {"PORT": str(port)}
    with subprocess.Popen(
        ["node", program(), transport], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield port
        finally:
            process.kill()


@pytest.fixture(params=["stdio", "http", "sse"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerConfig]:
    if request.param == "stdio":
        yield StdioServer(name="everything", command="node", args=(program(),))
        return
    transport, path = ("sse", "/sse") if request.param == "sse" else ("streamableHttp", "/mcp")
    with listening(transport) as port:
        yield HttpServer(
            name="everything", url=f"http://127.0.0.1:{port}{path}", kind=request.param
        )


@pytest.fixture
async def connections(server: ServerConfig) -> AsyncIterator[McpConnections]:
    async with McpConnections([server], pace=PACE) as connections:
        while not connections.tools():  # the port opens when it opens
            await connections.settled()
        yield connections


async def test_its_tools_are_listed_and_called(connections: McpConnections) -> None:
    assert {"echo", "get-sum"} <= {tool.name for tool in connections.tools()}
    assert (await connections.call("echo", {"message": "hi"})).text == "Echo: hi"
    assert "42" in (await connections.call("get-sum", {"a": 2, "b": 40})).text


async def test_its_results_of_every_kind_are_text(connections: McpConnections) -> None:
    picture = await connections.call("get-tiny-image", {})
    weather = await connections.call("get-structured-content", {"location": "New York"})
    links = await connections.call("get-resource-links", {"count": 2})
    file = await connections.call(
        "get-resource-reference", {"resourceType": "Text", "resourceId": 1}
    )
    assert "[image, image/png, " in picture.text
    assert weather.structured["temperature"]
    assert "](demo://" in links.text
    assert "esource" in file.text


async def test_a_long_operation_ends_at_the_time_limit(connections: McpConnections) -> None:
    slow = {"duration": 30, "steps": 3}
    result = await connections.call("trigger-long-running-operation", slow, timeout_s=0.5)
    assert result.is_error
    assert (await connections.call("echo", {"message": "on"})).text == "Echo: on"


async def test_its_refusals_are_results(connections: McpConnections) -> None:
    assert (await connections.call("get-sum", {"a": "x"})).is_error
