"""A server over a scripted model, in process or behind a real socket."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from qwenkit.adapters.prepare import PreparedAdapter
from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine
from qwenkit.engine.observer import Observer
from qwenkit.errors import ModelCorrupt, ModelNotFound
from qwenkit.models.progress import ProgressFactory
from qwenkit.server.app import create_app
from qwenkit.server.connection import connection_with
from qwenkit.server.reload import Fits
from qwenkit.settings import ModelSpec, Settings

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


def prepare_scripted(source: Path) -> PreparedAdapter:
    """Readies a file of scripted answers; what is no JSON is no adapter."""
    try:
        content = source.read_text(encoding="utf-8")
        json.loads(content)
    except FileNotFoundError as exc:
        raise ModelNotFound(f"there is no `{source}`") from exc
    except ValueError as exc:
        raise ModelCorrupt(f"`{source}` is no JSON") from exc
    return PreparedAdapter(
        path=source,
        source=source,
        version=hashlib.sha256(content.encode()).hexdigest()[:12],
        rank=8,
        alpha=16.0,
        targets=("q_proj",),
        n_params=100,
        size_bytes=len(content),
        template_hash=json.loads(content).get("template_hash"),
    )


@dataclass
class Models:
    """Loads scripted models, and remembers them.

    `makers` makes a backend by its model path; those that are not there make the usual one.
    `before_load` runs on the loader's thread first, and `before_prepare` where an adapter is
    readied.
    """

    backend: ScriptedBackend
    max_queue: int = 8
    before_load: Callable[..., object] = lambda spec: None
    before_prepare: Callable[[Path], object] = lambda source: None
    makers: dict[str | None, Callable[[], ScriptedBackend]] = field(default_factory=dict)
    specs: list[ModelSpec] = field(default_factory=list)
    backends: list[ScriptedBackend] = field(default_factory=list)

    def load(
        self,
        spec: ModelSpec,
        *,
        name: str | None,
        progress: ProgressFactory,
        observer: Observer,
    ) -> ChatModel:
        self.specs.append(spec)
        with progress("Loading", total=10) as advance:
            advance(4)
            self.before_load(spec)
        backend = self.makers.get(spec.model_path, lambda: self.backend)()
        self.backends.append(backend)
        engine = Engine(
            backend,
            max_queue=self.max_queue,
            prepare_adapter=self._prepare,
            observer=observer,
        )
        template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
        return ChatModel(name or MODEL, engine.start(), template)

    def _prepare(self, source: Path) -> PreparedAdapter:
        self.before_prepare(source)
        return prepare_scripted(source)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(ANSWERS, n_slots=4, n_ctx=8192)


@pytest.fixture
def make_app(backend: ScriptedBackend, tmp_path: Path) -> Callable[..., FastAPI]:
    """An application over scripted models, with any settings changed."""

    def make(
        *,
        max_queue: int = 8,
        before_load: Callable[[], object] = bool,
        models: Models | None = None,
        fits: Fits = lambda spec, progress: True,
        **settings: Any,
    ) -> FastAPI:
        models = models or Models(backend, max_queue, before_load=lambda spec: before_load())
        given = {"qwenkit_home": tmp_path / "home", "log_dir": tmp_path / "logs", **settings}
        return create_app(Settings(_env_file=None, **given), load=models.load, fits=fits)

    return make


@pytest.fixture
def write_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Writes an adapter that answers everything alike, by default into `adapters_dir`."""

    def write(name: str, answer: str = "adapted", *, folder: Path | None = None) -> Path:
        folder = folder or tmp_path / "adapters"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.gguf"
        answers = {"": f"<think>\n\n</think>\n\n{answer}", "Once upon": answer}
        path.write_text(json.dumps(answers), encoding="utf-8")
        return path

    return write


@pytest.fixture
def adapters_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def scripted() -> Callable[..., ScriptedBackend]:
    """Makes a backend that always gives one answer, without thinking."""

    def make(answer: str = "", **options: Any) -> ScriptedBackend:
        options = {"n_slots": 4, "n_ctx": 8192, **options}
        return ScriptedBackend({"": f"<think>\n\n</think>\n\n{answer}"}, **options)

    return make


@pytest.fixture
def models(backend: ScriptedBackend) -> Models:
    return Models(backend, max_queue=64)


@pytest.fixture(scope="session")
def make_shared_app(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FastAPI]:
    """As `make_app`, for tests that share one application."""

    def make(**settings: Any) -> FastAPI:
        folder = tmp_path_factory.mktemp("shared")
        models = Models(ScriptedBackend(ANSWERS, n_slots=4, n_ctx=8192))
        given = {"qwenkit_home": folder / "home", "log_dir": folder / "logs", **settings}
        settings = Settings(_env_file=None, **given)
        return create_app(settings, load=models.load, fits=lambda spec, progress: True)

    return make


class Client(httpx.AsyncClient):
    """A client that can look behind the server's face, at `state`."""

    def __init__(self, app: FastAPI, **headers: str) -> None:
        super().__init__(transport=httpx.ASGITransport(app), base_url=LOCAL, headers=headers)
        self.state = app.state


@asynccontextmanager
async def running(app: FastAPI, *, wait: bool = True, **headers: str) -> AsyncIterator[Client]:
    """The application after its start, with its model loaded if `wait`, and a client for it."""
    async with app.router.lifespan_context(app):
        if wait:
            await app.state.serving.loaded()
        async with Client(app, **headers) as client:
            yield client


@pytest.fixture
def run() -> Callable[..., Any]:
    return running


@pytest.fixture
async def client(make_app: Callable[..., FastAPI]) -> AsyncIterator[Client]:
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
def at_a_port(app: FastAPI, *, client_timeout_s: float = 30.0) -> Iterator[str]:
    """The application behind a real socket; gives its URL."""
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        ws="none",
        http=connection_with(timeout_s=client_timeout_s),
        timeout_graceful_shutdown=5,
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
def listening() -> Callable[..., AbstractContextManager[str]]:
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
