"""The demo model behind a real socket, as an editor finds it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from qwenkit.ide.served import Served
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

KEY = "an-editors-key"

SERVED = Served(
    url="http://127.0.0.1:8000/v1",
    model="qwen3-8b",
    base="qwen3-8b",
    n_ctx=32_768,
    fills_in=True,
    embeds=True,
    reranks=True,
)


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz").status_code == 200
    return False


@contextmanager
def _at_a_port(app: FastAPI) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        config = uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        deadline = time.monotonic() + 30
        while not _is_ready(url):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield url
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo model, which wants a key."""
    settings = Settings(
        _env_file=None,
        qwenkit_home=tmp_path_factory.mktemp("home"),
        log_dir=tmp_path_factory.mktemp("logs"),
        n_threads=1,
        n_parallel=4,
        n_ctx=4096,
        api_keys=KEY,
    )
    with _at_a_port(create_app(settings)) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def key() -> str:
    return KEY


@pytest.fixture
def served() -> Callable[..., Served]:
    """A served model, with any fact changed."""

    def make(**changes: Any) -> Served:
        return replace(SERVED, **changes)

    return make
