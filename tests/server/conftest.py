"""A server over a scripted model, in process or behind a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine
from qwenkit.engine.observer import Observer
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

MODEL = "scripted"
LOCAL = "http://127.0.0.1:8000"
WEATHER_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
TIME_CALL = '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>'
ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "hello": "<think>\nA greeting.\n</think>\n\nHello there!",
    "count": "<think>\n\n</think>\n\none two three four five",
    "weather": f"<think>\nA tool knows.\n</think>\n\n{WEATHER_CALL}",
    "both": f"<think>\n\n</think>\n\nLet me see.\n{WEATHER_CALL}\n{TIME_CALL}",
    "json": '<think>\n\n</think>\n\n{"name": "Ada", "age": 36}',
    "wide": "<think>\n\n</think>\n\n日本語 \u2028 ok",
    "poison": "<think>\n\n</think>\n\nfine \x07 and then never",
    "long": "<think>\n\n</think>\n\n" + "la " * 1000,
    "Once upon": " a time there was a king.",
    "def add(": "return a + b",
}
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK_TOOL = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time in a zone",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}


def chat_model(backend: ScriptedBackend, observer: Observer, *, max_queue: int = 8) -> ChatModel:
    engine = Engine(backend, max_queue=max_queue, observer=observer).start()
    template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
    return ChatModel(MODEL, engine, template)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(ANSWERS, n_slots=4, n_ctx=8192)


@pytest.fixture
def make_app(backend: ScriptedBackend) -> Callable[..., FastAPI]:
    """An application over the scripted backend, with any settings changed.

    `before_load` runs on the loader's thread first.
    """

    def make(
        *, max_queue: int = 8, before_load: Callable[[], object] = bool, **settings: Any
    ) -> FastAPI:
        def load(observer: Observer) -> ChatModel:
            before_load()
            return chat_model(backend, observer, max_queue=max_queue)

        return create_app(Settings(_env_file=None, **settings), load=load)

    return make


@asynccontextmanager
async def running(
    app: FastAPI, *, wait: bool = True, **headers: str
) -> AsyncIterator[httpx.AsyncClient]:
    """The application after its start, with its model loaded if `wait`, and a client for it."""
    async with app.router.lifespan_context(app):
        if wait:
            await app.state.serving.loaded()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url=LOCAL, headers=headers
        ) as client:
            yield client


@pytest.fixture
def run() -> Callable[..., Any]:
    return running


@pytest.fixture
async def client(make_app: Callable[..., FastAPI]) -> AsyncIterator[httpx.AsyncClient]:
    async with running(make_app()) as client:
        yield client


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for a condition, with a deadline."""
    return wait_until


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz").status_code == 200
    return False


@contextmanager
def at_a_port(app: FastAPI) -> Iterator[str]:
    """The application behind a real socket; gives its URL."""
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    config = uvicorn.Config(
        app, log_config=None, access_log=False, ws="none", http="h11", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        wait_until(lambda: _is_ready(url))
        yield url
    finally:
        server.should_exit = True
        thread.join(20)
        sock.close()


@pytest.fixture(scope="session")
def listening() -> Callable[[FastAPI], AbstractContextManager[str]]:
    return at_a_port


@pytest.fixture
def url(make_app: Callable[..., FastAPI]) -> Iterator[str]:
    """A server on a free port."""
    with at_a_port(make_app()) as url:
        yield url


def parse_events(text: str) -> list[Any]:
    """The data of a stream's events; `[DONE]` stays a string."""
    data = [
        line.removeprefix("data: ")
        for event in text.split("\n\n")
        for line in event.split("\n")
        if line.startswith("data: ")
    ]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


@pytest.fixture
def events() -> Callable[[str], list[Any]]:
    return parse_events


def user(text: str, **body: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **body}


@pytest.fixture
def ask() -> Callable[..., dict[str, Any]]:
    """The body of a chat request with one user message."""
    return user


@pytest.fixture
def weather_tool() -> dict[str, Any]:
    return WEATHER_TOOL


@pytest.fixture
def clock_tool() -> dict[str, Any]:
    return CLOCK_TOOL
