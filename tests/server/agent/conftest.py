"""A live server over scripted answers, and LangGraph's own client for its agent."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from qwenkit.backends.scripted import ScriptedBackend


def call(name: str, **arguments: Any) -> str:
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{body}\n</tool_call>"


ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "hello": "<think>\nA greeting.\n</think>\n\nHello there!",
    "encore": "<think>\n\n</think>\n\nOnce more.",
    "edited": "<think>\n\n</think>\n\nAn edit.",
    "sum": f"<think>\nA tool knows.\n</think>\n\n{call('calculator', expression='17*23')}",
    "391": "<think>\n\n</think>\n\nIt is 391.",
    "delete": f"<think>\n\n</think>\n\nI will.\n{call('files__delete', path='/etc/x')}",
    "delete both": (
        f"<think>\n\n</think>\n\n{call('files__delete', path='/a')}"
        f"\n{call('files__delete', path='/b')}"
    ),
    "look": f"<think>\n\n</think>\n\n{call('files__list', path='/a')}",
    "listd": "<think>\n\n</think>\n\nNothing there.",
    "deleted": "<think>\n\n</think>\n\nIt is gone.",
    "ask for it": "<think>\n\n</think>\n\nThen not.",
    "long": "<think>\n\n</think>\n\n" + "la " * 1000,
    "poison": "<think>\n\n</think>\n\nfine \x07 and then never",
}


class FakeConnections:
    """Connections to a server of files, where nothing is ever deleted."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def tools(self) -> tuple[Any, ...]:
        return tuple(
            SimpleNamespace(
                server="files",
                name=f"files__{name}",
                description=f"{name} a file",
                parameters={"type": "object", "properties": {"path": {"type": "string"}}},
                allowed=name == "list",
            )
            for name in ("delete", "list")
        )

    async def call(self, name: str, arguments: Any, *, timeout_s: float | None = None) -> Any:
        self.calls.append((name, dict(arguments)))
        text = f"{name.removeprefix('files__')}d {arguments['path']}"
        return SimpleNamespace(text=text, structured={"ok": True}, is_error=False)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(ANSWERS, n_slots=4, n_ctx=16384)


@pytest.fixture
def fresh(models: Any) -> Any:
    """Models that every server loads anew."""
    models.makers = {None: lambda: ScriptedBackend(ANSWERS, n_slots=4, n_ctx=16384)}
    return models


@pytest.fixture
def connections() -> FakeConnections:
    return FakeConnections()


class Door:
    """One socket for the apps of all tests: starting uvicorn anew takes longer than most tests."""

    def __init__(self) -> None:
        self.url = ""
        self._app: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self._loop = asyncio.get_running_loop()
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await self._app(scope, receive, send)

    @contextmanager
    def leads_to(self, app: Any) -> Iterator[None]:
        """An app behind the door, from its start to its end."""
        assert self._loop is not None
        assert self._app is None, "there is one app at a time"
        started, ended = threading.Event(), asyncio.Event()

        async def live() -> None:
            async with app.router.lifespan_context(app):
                await app.state.serving.loaded()
                started.set()
                await ended.wait()

        self._app = app
        life = asyncio.run_coroutine_threadsafe(live(), self._loop)
        life.add_done_callback(lambda _: started.set())
        assert started.wait(10)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(ended.set)
            life.result(20)
            self._app = None


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    door = Door()
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(door, log_config=None, access_log=False, ws="none", http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    door.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        while not server.started:
            time.sleep(0.002)
        yield door
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def live(
    make_app: Callable[..., Any], door: Door, backend: ScriptedBackend, connections: Any
) -> Iterator[Callable[..., Any]]:
    """Starts a server behind a real socket; gives its app with `url`, and frees what is held."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Any:
            app = make_app(**settings)
            stack.enter_context(door.leads_to(app))
            app.state.url = door.url
            app.state.mcp = connections
            stack.callback(backend.release)
            return app

        yield start


@pytest.fixture
def server(live: Callable[..., Any]) -> Any:
    return live()


@pytest.fixture
async def sdk(server: Any) -> AsyncIterator[Any]:
    """The SDK's client of a server of its own."""
    async with connect(server) as client:
        yield client


@asynccontextmanager
async def connect(app: Any, **options: Any) -> AsyncIterator[Any]:
    from langgraph_sdk import get_client

    async with get_client(url=f"{app.state.url}/agent", api_key=None, **options) as client:
        yield client


@pytest.fixture
def connected() -> Any:
    return connect


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"type": "human", "content": text, **more}]}


@pytest.fixture
def say() -> Callable[..., dict[str, Any]]:
    """The input of a run with one human message."""
    return said
