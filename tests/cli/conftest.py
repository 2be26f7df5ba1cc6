"""A server on 127.0.0.1 that answers as it was told to, and a way to run `qwenkit` against it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

GOOD_KEY = "correct"


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


ANSWER = [
    chunk(role="assistant", content=""),
    chunk(reasoning_content="Let me "),
    chunk(reasoning_content="think."),
    chunk(content="**Hello** "),
    chunk(content="there.\n\n- one\n"),
    chunk(content="- two"),
    chunk(finish="stop"),
    {
        "choices": [],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    },
]


@dataclass
class FakeServer:
    """Answers chats with `chunks`; after `hold_after` of them it waits until the client leaves.

    `first` are the chunks of the first chats, one list each, where those are to differ.
    """

    models: list[str] = field(default_factory=lambda: ["fake"])
    chunks: list[Any] = field(default_factory=lambda: list(ANSWER))
    first: list[list[Any]] = field(default_factory=list)
    needs_key: bool = False
    hold_after: int | None = None
    ends_properly: bool = True
    bodies: list[dict[str, Any]] = field(default_factory=list)
    client_left: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        data = [{"id": name, "object": "model"} for name in self.fake.models]
        self._reply(200, {"object": "list", "data": data})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.fake.bodies.append(json.loads(body))
        if self.fake.needs_key and self.headers["Authorization"] != f"Bearer {GOOD_KEY}":
            self._reply(401, {"error": {"message": "no such key"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._stream()

    def _stream(self) -> None:
        chunks = self.fake.first.pop(0) if self.fake.first else self.fake.chunks
        for i, each in enumerate(chunks):
            if i == self.fake.hold_after:
                self._wait_until_client_leaves()
                return
            self._send(json.dumps(each, ensure_ascii=False))
        if self.fake.ends_properly:
            self._send("[DONE]")

    def _wait_until_client_leaves(self) -> None:
        with suppress(ConnectionError):  # reset, when it leaves something unread
            self.connection.recv(1)  # returns when the other side closes
        self.fake.client_left.set()

    def _send(self, data: str) -> None:
        self.wfile.write(f": ping\r\n\r\ndata: {data}\r\n\r\n".encode())
        self.wfile.flush()

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    state = FakeServer()
    handler = type("Handler", (_Handler,), {"fake": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment without settings, so that only the test's own count."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "TERM": "xterm", "COLUMNS": "100", **extra}


@dataclass(frozen=True)
class Cli:
    folder: Path

    def __call__(
        self, *args: str, piped: str | bytes = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        given = piped.encode() if isinstance(piped, str) else piped
        done = subprocess.run(
            [sys.executable, "-m", "qwenkit", *args],
            input=given,
            capture_output=True,
            cwd=self.folder,
            env=clean_environment(**environment),
            timeout=120,
            check=False,
        )
        return subprocess.CompletedProcess(
            args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )


@pytest.fixture
def qwenkit(tmp_path: Path) -> Cli:
    """Runs `qwenkit` in a process of its own, in an empty folder, without settings."""
    return Cli(tmp_path)


class Terminal:
    """`qwenkit` at a terminal of its own; waits for what it shows, never for time to pass."""

    ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x01|\x02|\r")

    # Makes the terminal the one whose Ctrl-C reaches the program.
    TAKE_TERMINAL = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        # What runs the tests in the background may have set it to be ignored, for all it starts.
        "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )

    def __init__(self, folder: Path, *args: str, **environment: str) -> None:
        self.raw = b""
        self._seen = 0
        self._ended = False
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.TAKE_TERMINAL, sys.executable, "-m", "qwenkit", *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=clean_environment(**environment),
            start_new_session=True,
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str, *, pressing: str = "") -> str:
        """Read on until `text` has come after what was waited for before; returns what came.

        Args:
            text: What to wait for.
            pressing: Typed again whenever nothing comes for a second.
        """
        deadline = time.monotonic() + 60
        while text not in (new := self.text[self._seen :]):
            may_come = not self._ended and time.monotonic() < deadline
            assert may_come, f"{text!r} never came; there is {new!r}"
            if not self._read():
                self.type(pressing)
        came = new[: new.index(text) + len(text)]
        self._seen += len(came)
        return came

    def wait_for_end(self) -> int:
        while not self._ended:
            self._read()
        return self._process.wait(30)

    @property
    def text(self) -> str:
        return self.ESCAPES.sub(b"", self.raw).decode(errors="replace")

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], 1)
        try:
            self.raw += os.read(self._master, 65536) if ready else b""
        except OSError:  # the program has closed its side, and all of it is read
            self._ended = True
        return bool(ready)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts `qwenkit` at a terminal."""
    opened: list[Terminal] = []

    def start(*args: str, **environment: str) -> Terminal:
        opened.append(Terminal(tmp_path, *args, **environment))
        return opened[-1]

    yield start
    for each in opened:
        each.close()
