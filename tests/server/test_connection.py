"""Clients that take their time, over real sockets."""

import asyncio
import json
import socket
import struct
import threading
from contextlib import contextmanager
from unittest.mock import Mock

import httpx
import pytest
from starlette.responses import StreamingResponse
from uvicorn.config import Config
from uvicorn.server import ServerState

from qwenkit.server.connection import MIN_RATE, connection_with

PATH = "/v1/chat/completions"
TIMEOUT_S = 0.3
LONG = 20.0
"""Far longer than any of these clients is waited for."""


@pytest.fixture(scope="module")
def url(make_shared_app, listening):
    with listening(make_shared_app(), client_timeout_s=TIMEOUT_S) as url:
        yield url


@contextmanager
def connected(url):
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=LONG) as sock:
        yield sock


def read_to_the_end(sock):
    received = b""
    while more := sock.recv(65_536):
        received += more
    return received


def head(n_body, *, path=PATH):
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {n_body}\r\n\r\n"
    ).encode()


def drip(sock, piece):
    """Send one piece after the other until the server has had enough."""
    sock.settimeout(TIMEOUT_S / 10)
    for _ in range(int(LONG / TIMEOUT_S * 10)):
        try:
            sock.sendall(piece)
            sock.recv(1, socket.MSG_PEEK)
            return
        except TimeoutError:
            pass
        except OSError:
            return
    pytest.fail("the server goes on listening")


def test_a_client_that_says_nothing_is_left_without_a_word(url):
    with connected(url) as sock:
        assert read_to_the_end(sock) == b""


@pytest.mark.parametrize("sent", [b"P", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n"])
def test_headers_that_do_not_end_are_answered_with_408(url, sent):
    with connected(url) as sock:
        sock.sendall(sent)
        answer = read_to_the_end(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


def test_headers_that_come_drop_by_drop_gain_no_time(url):
    with connected(url) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\n")
        drip(sock, b"X-A: a\r\n")


@pytest.mark.parametrize("sent", [b"", b'{"messages"'])
def test_a_body_that_does_not_end_is_answered_with_408_and_hurts_nobody(url, ask, sent):
    with connected(url) as sock:
        sock.sendall(head(1000) + sent)
        answer = read_to_the_end(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert httpx.post(f"{url}{PATH}", json=ask("hello")).status_code == 200


def test_a_body_that_comes_drop_by_drop_ends_as_well(url):
    with connected(url) as sock:
        sock.sendall(head(1_000_000))
        drip(sock, b"x")


def test_what_is_sent_on_after_the_answer_ends_too(url):
    chunked = head(0, path="/v1/nothing").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    with connected(url) as sock:
        sock.sendall(chunked)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 404 ")
        drip(sock, b"1\r\nx\r\n")


def test_a_second_request_may_be_slow_no_more_than_the_first(url):
    with connected(url) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):  # head and body come apart
            answer += sock.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert read_to_the_end(sock).startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_takes_longer_than_a_client_may_is_waited_for(
    make_app, listening, backend, ask
):
    body = json.dumps(ask("hello")).encode()
    with listening(make_app(), client_timeout_s=TIMEOUT_S) as url, connected(url) as sock:
        backend.hold()
        sock.sendall(head(len(body)) + body)
        sock.settimeout(3 * TIMEOUT_S)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        backend.release()
        sock.settimeout(LONG)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_nobody_reads_is_given_up(make_app, listening):
    app, ended = make_app(), threading.Event()

    async def endless():
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x" * 65_536
        finally:
            ended.set()

    @app.get("/endless")
    async def stream():
        return StreamingResponse(endless())

    with listening(app, client_timeout_s=TIMEOUT_S) as url, connected(url) as sock:
        sock.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(LONG)


def test_a_client_that_leaves_within_its_body_is_no_error_of_ours(url, caplog, ask):
    with connected(url) as sock:
        sock.sendall(head(1000) + b"{")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert httpx.post(f"{url}{PATH}", json=ask("hello")).status_code == 200
    assert "Traceback" not in caplog.text


def test_what_is_no_http_is_answered_as_other_mistakes_are(url):
    with connected(url) as sock:
        sock.sendall(b"HELO mail.example\r\n\r\n")
        answer = read_to_the_end(sock)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


def test_a_broken_chunk_after_the_answer_breaks_the_connection_and_no_more(url, caplog):
    chunked = head(0, path="/v1/nothing").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    with connected(url) as sock:
        sock.sendall(chunked)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 404 ")
        sock.sendall(b"zz\r\n")
        assert read_to_the_end(sock) == b""
    assert "Traceback" not in caplog.text


class Clock:
    """The part of an event loop that a connection needs, with a time of its own."""

    def __init__(self):
        self.now = 0.0
        self._due = []

    def time(self):
        return self.now

    def call_later(self, delay_s, callback):
        timer = Timer(self.now + delay_s, callback)
        self._due.append(timer)
        return timer

    def create_task(self, work):
        work.close()  # what answers is not what is looked at
        return Mock()

    def go_on(self, seconds):
        end = self.now + seconds
        while due := [each for each in self._due if each.at <= end and not each.cancelled]:
            timer = min(due, key=lambda each: each.at)
            self._due.remove(timer)
            self.now = timer.at
            timer.callback()
        self.now = end


class Timer:
    def __init__(self, at, callback):
        self.at, self.callback, self.cancelled = at, callback, False

    def cancel(self):
        self.cancelled = True


class Pipe:
    """A transport whose other end reads what it is told to."""

    def __init__(self):
        self.n_unread = 0
        self.closing = self.aborted = False

    def get_extra_info(self, _name, default=None):
        return default

    def get_write_buffer_size(self):
        return self.n_unread

    def write(self, data):
        self.n_unread += len(data)

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def abort(self):
        self.aborted = True


@pytest.fixture
def connection():
    """A connection over a pipe, with a clock of its own."""
    made = connection_with(timeout_s=30)
    config = Config(nobody_answers, log_config=None, ws="none", lifespan="off")
    connection = made(config=config, server_state=ServerState(), app_state={}, _loop=Clock())
    connection.connection_made(Pipe())
    return connection


async def nobody_answers(scope, receive, send):
    raise AssertionError


def send_a_megabyte(connection):
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.transport.write(bytes(2**20))
    connection.pause_writing()


def test_a_client_that_reads_slowly_and_steadily_gets_all_of_a_large_answer(connection):
    send_a_megabyte(connection)
    pipe, clock = connection.transport, connection.loop
    while pipe.n_unread > 2 * MIN_RATE:
        pipe.n_unread -= 2 * MIN_RATE
        clock.go_on(1)
        assert not pipe.aborted
    assert clock.now > 200


def test_a_client_that_reads_drop_by_drop_is_given_up(connection):
    send_a_megabyte(connection)
    pipe, clock = connection.transport, connection.loop
    for _ in range(31):
        pipe.n_unread -= MIN_RATE // 2
        clock.go_on(1)
    assert pipe.aborted


def test_the_rest_of_a_last_answer_is_not_waited_for_without_end(connection):
    pipe, clock = connection.transport, connection.loop
    connection.data_received(b"no request\r\n\r\n")
    assert pipe.closing
    connection.resume_writing()
    clock.go_on(31)
    assert pipe.aborted
