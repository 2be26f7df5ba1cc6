"""Servers to connect to: a program on stdio, and a port that can be closed and opened again."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn

from qwenkit.mcp.client.config import HttpServer, StdioServer
from qwenkit.mcp.client.connection import Pace

HERE = Path(__file__).parent
QUICK = Pace(
    connect_s=30, list_s=10, watch_s=0.05, between_s=0.01, first_pause_s=0.01, most_pause_s=0.05
)


def stdio(name: str = "tools", **fields: Any) -> StdioServer:
    fields = {"command": sys.executable, "args": (str(HERE / "plain_server.py"),), **fields}
    return StdioServer(name=name, **fields)


def load_tool_server() -> ModuleType:
    """A fresh copy of the test server, so that no test sees what another did to it."""
    spec = importlib.util.spec_from_file_location("tool_server", HERE / "tool_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Port:
    """An ASGI application at a port that stays the same over restarts."""

    def __init__(self, make_app: Callable[[], Any]) -> None:
        self._make_app = make_app
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.number: int = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        sock = socket.create_server(("127.0.0.1", self.number))
        config = uvicorn.Config(
            self._make_app(), log_config=None, ws="none", timeout_graceful_shutdown=0
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(self._server, sock))
        self._thread.start()

    @staticmethod
    def _run(server: uvicorn.Server, sock: socket.socket) -> None:
        with sock:
            server.run(sockets=[sock])

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(20)
            self._server = self._thread = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.number}"

    def config(self, path: str = "/mcp", **fields: Any) -> HttpServer:
        return HttpServer(**{"name": "web", "url": self.url + path, **fields})


@pytest.fixture
def port() -> Iterator[Callable[[Callable[[], Any]], Port]]:
    """Opens ports for applications."""
    opened: list[Port] = []

    def open_port(make_app: Callable[[], Any]) -> Port:
        opened.append(Port(make_app))
        return opened[-1]

    yield open_port
    for each in opened:
        each.stop()


def _streamable_http() -> Any:
    return load_tool_server().server.streamable_http_app()


@pytest.fixture
def web(port: Callable[..., Port]) -> Port:
    """The test server over streamable HTTP."""
    return port(_streamable_http)


@pytest.fixture
def program() -> Callable[..., StdioServer]:
    """A program that speaks MCP."""
    return stdio


@pytest.fixture
def pace() -> Pace:
    return QUICK


@pytest.fixture
def load_server() -> Callable[[], ModuleType]:
    """Fresh copies of the test server."""
    return load_tool_server


@pytest.fixture
def sdk_program() -> StdioServer:
    """The test server as a program."""
    return stdio(args=(str(HERE / "tool_server.py"),))


@pytest.fixture
def strange_program() -> StdioServer:
    """A program that means no good."""
    return stdio(args=(str(HERE / "strange_server.py"),))
