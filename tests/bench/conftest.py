"""A server that counts words as tokens and answers `max_tokens` times the same word."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class WordServer:
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tells_usage: bool = True
    silent: bool = False
    status: int = 200
    url: str = ""

    def prompts(self) -> list[str]:
        return [body["prompt"] for _, body in self.bodies]


class _Handler(BaseHTTPRequestHandler):
    state: WordServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._reply(200, {"data": [{"id": "words"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.bodies.append((self.path, body))
        if self.state.status != 200:
            self._reply(self.state.status, {"error": {"message": "no"}})
            return
        self.send_response(200)
        self.end_headers()
        with suppress(ConnectionError):  # the client has what it wanted
            self._stream(body)

    def _stream(self, body: dict[str, Any]) -> None:
        chat = self.path.endswith("chat/completions")
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        if chat:
            self._send({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        word = "" if self.state.silent else "word "
        piece = {"delta": {"content": word}} if chat else {"text": word}
        for _ in range(body["max_tokens"]):
            self._send({"choices": [{"index": 0, **piece, "finish_reason": None}]})
        self._send({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        if self.state.tells_usage:
            usage = {
                "prompt_tokens": 3 + 2 * len(prompt.split()),
                "completion_tokens": body["max_tokens"],
            }
            self._send({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    request_queue_size = 64


@pytest.fixture
def words() -> Iterator[WordServer]:
    yield from _serve()


@pytest.fixture
def other_words() -> Iterator[WordServer]:
    yield from _serve()


def _serve() -> Iterator[WordServer]:
    state = WordServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
