"""Over a real socket: what only a connection that can break shows."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from qwenkit.backends.scripted import ScriptedBackend

PATH = "/v1/chat/completions"
TOKEN = b'"content":"l"'


def connect(url):
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def post(url, body, path=PATH):
    """A connection that has sent a request and reads nothing yet."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    connection = connect(url)
    connection.sendall(head.encode() + content)
    return connection


def read_until(connection, mark):
    data = b""
    while mark not in data:
        received = connection.recv(65536)
        assert received, f"the connection ended before {mark!r}: {data!r}"
        data += received
    return data


@pytest.fixture
def backend():
    answers = {"long": "<think>\n\n</think>\n\n" + "la " * 1000, "": "ok"}
    return ScriptedBackend(answers, n_slots=1, n_ctx=8192)


@pytest.fixture
def live(make_app, listening, backend):
    """A server with one slot; gives its URL and its engine."""

    @contextmanager
    def start(**settings):
        app = make_app(**settings)
        with listening(app) as url:
            try:
                yield url, app.state.serving.model.engine
            finally:
                backend.release()

    return start


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [PATH, "/v1/completions"])
def test_a_client_that_goes_away_during_prefill_frees_its_slot(
    live, ask, backend, until, stream, path
):
    with live() as (url, engine):
        backend.hold()
        connection = post(url, ask("long", prompt="long", stream=stream), path)
        assert backend.wait_until_held()
        assert engine.snapshot().n_running == 1
        connection.close()
        until(lambda: engine.snapshot().n_running == 0)


def test_a_client_that_goes_away_in_mid_stream_frees_its_slot(live, ask, backend, until):
    with live() as (url, engine):
        connection = post(url, ask("long", stream=True))
        read_until(connection, TOKEN)
        backend.hold()
        assert backend.wait_until_held()
        connection.close()
        until(lambda: engine.snapshot().n_running == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_while_it_waits_leaves_the_queue(live, ask, until, stream):
    with live() as (url, engine):
        first = post(url, ask("long", stream=True))
        read_until(first, TOKEN)
        second = post(url, ask("other", stream=stream))
        until(lambda: engine.snapshot().n_waiting == 1)
        second.close()
        until(lambda: engine.snapshot().n_waiting == 0)
        assert engine.snapshot().n_running == 1, "the first one still runs"
        first.close()


def test_a_full_queue_is_answered_with_503_and_when_to_come_back(live, ask, until):
    with live(max_queue=1) as (url, engine):
        running = post(url, ask("long", stream=True))
        read_until(running, TOKEN)
        waiting = post(url, ask("long", stream=True))
        until(lambda: engine.snapshot().n_waiting == 1)
        for stream in (True, False):
            reply = httpx.post(url + PATH, json=ask("x", stream=stream))
            assert reply.status_code == 503
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] == "queue_full"
        running.close()
        waiting.close()
        until(lambda: engine.snapshot().n_waiting + engine.snapshot().n_running == 0)
        assert httpx.post(url + PATH, json=ask("x")).status_code == 200


def test_a_silent_stream_gets_pings_even_before_its_first_token(live, ask, backend):
    with live(sse_ping_s=0.02) as (url, _):
        backend.hold()
        connection = post(url, ask("hello", stream=True))
        early = read_until(connection, b": ping")
        assert b"200 OK" in early
        assert b"text/event-stream" in early
        backend.release()
        assert b"data: " in read_until(connection, b"[DONE]")
        connection.close()


def test_an_answer_is_streamed_while_it_is_written(live, ask, backend):
    with (
        live() as (url, _),
        httpx.stream("POST", url + PATH, json=ask("long", stream=True)) as reply,
    ):
        lines = reply.iter_lines()
        assert any('"content":"l"' in line for line in lines)
        backend.hold()
        assert backend.wait_until_held()
        backend.release()
        assert any("[DONE]" in line for line in lines)


def test_a_connection_is_used_again_after_an_error_and_after_a_stream(live, ask):
    with live() as (url, _), httpx.Client(base_url=url) as client:
        for body in (ask("x", n=0), ask("x", stream=True), ask("x", stream=True, n=0), ask("x")):
            reply = client.post(PATH, json=body)
            assert reply.status_code == (400 if body.get("n") == 0 else 200)
            assert client._transport._pool.connections[0].is_idle()


def test_a_body_that_is_cut_off_does_no_harm(live, ask):
    with live() as (url, _):
        for sent in (b"", b"POST /v1/chat", b'{"messages": [{"ro'):
            connection = connect(url)
            head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n".encode()
            connection.sendall(head + sent if sent.startswith(b"{") else sent)
            connection.close()
        assert httpx.post(url + PATH, json=ask("x")).status_code == 200


def test_a_slow_sender_and_a_hundred_headers_do_no_harm(live, ask):
    with live() as (url, _):
        headers = {f"X-Header-{i}": "x" * 100 for i in range(100)}
        assert httpx.post(url + PATH, json=ask("x"), headers=headers).status_code == 200
        huge = {"X-Huge": "x" * 1_000_000}
        with suppress(httpx.TransportError):
            assert httpx.get(url + "/healthz", headers=huge).status_code == 400
        assert httpx.get(url + "/healthz").status_code == 200


def test_many_clients_at_once_each_get_their_own_answer(live, ask, until):
    with live(max_queue=64) as (url, engine), ThreadPoolExecutor(16) as pool:
        replies = list(
            pool.map(
                lambda i: httpx.post(url + PATH, json=ask("x", max_tokens=1 + i % 3), timeout=60),
                range(32),
            )
        )
        assert [reply.status_code for reply in replies] == [200] * 32
        ids = {reply.json()["id"] for reply in replies}
        assert len(ids) == 32
        # The next turn of the last one may still be prepared.
        until(lambda: engine.snapshot().n_running == 0)
