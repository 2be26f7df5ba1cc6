"""Requests that are not what they seem, byte by byte over a real socket.

A request that two readers would end in different places must end its connection, so that nothing
which follows it is taken for a request.
"""

import socket
from contextlib import contextmanager, suppress

import pytest

KEY = "user-key"
BODY = b'{"content": "x"}'
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-Api-Key: user-key\r\n\r\n"
COMMON = b"Host: a\r\nX-Api-Key: user-key\r\nContent-Type: application/json\r\n"
POST = b"POST /tokenize HTTP/1.1\r\n" + COMMON
GET = b"GET /v1/models HTTP/1.1\r\n" + COMMON
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.fixture(scope="module")
def url(make_shared_app, listening):
    with listening(make_shared_app(api_keys=KEY)) as url:
        yield url


@contextmanager
def connected(url):
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        yield sock


def exchange(url, request):
    """All that a server says to a request, after which nothing more is said."""
    with connected(url) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        said = b""
        while more := sock.recv(65_536):
            said += more
        return said


def statuses(said):
    return [int(line.split()[1]) for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


@pytest.mark.parametrize(
    "request_",
    [
        POST + LENGTH + b"\r\n" + BODY,
        POST + CHUNKED + b"\r\n" + CHUNKS,
        POST
        + CHUNKED
        + b"\r\n%x;name=value\r\n%s\r\n0\r\nX-Trailer: a\r\n\r\n" % (len(BODY), BODY),
        POST + LENGTH + LENGTH + b"\r\n" + BODY,
    ],
)
def test_a_body_with_one_end_is_taken_and_the_next_request_too(url, request_):
    with connected(url) as sock:
        sock.sendall(request_)
        assert statuses(sock.recv(65_536)) == [200]
        sock.sendall(SMUGGLED)
        assert statuses(sock.recv(65_536)) == [200]


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + CHUNKS,
        POST + CHUNKED + b"Content-Length: 500\r\n\r\n" + CHUNKS,
        POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + CHUNKS,
        POST + CHUNKED + CHUNKED + b"\r\n" + CHUNKS,
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
        POST + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
        POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
        POST + b"Content-Length: 5\r\nContent-Length: 16\r\n\r\n" + BODY,
        POST + b"Content-Length: 16, 5\r\n\r\n" + BODY,
        POST + b"Content-Length: +16\r\n\r\n" + BODY,
        POST + b"Content-Length: -1\r\n\r\n" + BODY,
        POST + b"Content-Length: 0x10\r\n\r\n" + BODY,
        POST + b"Content-Length: 1_6\r\n\r\n" + BODY,
        POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n" + BODY,
        POST + CHUNKED + b"\r\nzz\r\n" + BODY,
        POST + CHUNKED + b"\r\n-1\r\n" + BODY,
        POST + CHUNKED + b"\r\n" + b"f" * 30 + b"\r\n" + BODY,
        POST + CHUNKED + b"\r\n%x\r\n%sXX0\r\n\r\n" % (len(BODY), BODY),
        POST + CHUNKED + b"\r\n%x\n%s\n0\n\n" % (len(BODY), BODY),
        POST + b"X-A: a\x00b\r\n" + LENGTH + b"\r\n" + BODY,
        POST + b"X-A: a\rb\r\n" + LENGTH + b"\r\n" + BODY,
        POST + b"X A: a\r\n" + LENGTH + b"\r\n" + BODY,
        POST + b": a\r\n" + LENGTH + b"\r\n" + BODY,
        POST + b"Host: b\r\n" + LENGTH + b"\r\n" + BODY,
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /v1/models\x00 HTTP/1.1\r\n" + COMMON + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n",
        b"G<T / HTTP/1.1\r\n" + COMMON + b"\r\n",
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_the_last_of_its_connection(url, request_):
    said = exchange(url, request_ + SMUGGLED)
    codes = statuses(said)
    assert len(codes) <= 1
    assert all(400 <= code < 500 for code in codes)
    assert b'"object":"list"' not in said


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"X-A: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
        b"GET http://evil.example/v1/models HTTP/1.1\r\n" + COMMON + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + COMMON + b"\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\n" + COMMON + b"\r\n",
        GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
        b"GET /v1/models/%00 HTTP/1.1\r\n" + COMMON + b"\r\n",
        b"GET /v1/models/a%0d%0aSet-Cookie:%20x HTTP/1.1\r\n" + COMMON + b"\r\n",
        b"GET /v1/models/%ff%fe HTTP/1.1\r\n" + COMMON + b"\r\n",
        b"GET /v1/models/%ed%a0%80 HTTP/1.1\r\n" + COMMON + b"\r\n",
        GET + b"X-Request-Id: a%0d%0aX-B: c\r\n\r\n",
        GET + b"Origin: null\r\n\r\n",
        GET + b"Cookie: " + b"a=b; " * 5000 + b"\r\n\r\n",
    ],
)
def test_a_strange_request_has_one_answer_without_foreign_headers(url, request_):
    said = exchange(url, request_)
    assert len(statuses(said)) == 1
    assert statuses(said)[0] < 500
    head = said.partition(b"\r\n\r\n")[0].lower()
    assert b"set-cookie" not in head
    assert b"x-b:" not in head
    assert b"evil" not in head


def test_what_follows_a_refused_key_is_not_taken_for_a_request(url):
    refused = POST.replace(b"user-key", b"wrong") + b"Content-Length: 10000\r\n\r\n"
    said = exchange(url, refused + SMUGGLED)
    assert statuses(said) == [401]


@pytest.mark.parametrize(
    "request_",
    [
        GET + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: a\r\n" % n for n in range(12_000)) + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + COMMON + b"\r\n",
        b"GET /?" + b"a" * 70_000 + b" HTTP/1.1\r\n" + COMMON + b"\r\n",
        GET + b"X-A: " + b"a" * 10_000_000,
    ],
    ids=["one", "many", "path", "query", "endless"],
)
def test_headers_without_measure_are_refused(url, request_):
    with connected(url) as sock, suppress(ConnectionError):
        sock.sendall(request_)
        # h11 refuses with 400 what it has not seen the end of, and the server with 431 the rest.
        assert statuses(sock.recv(65_536))[0] in (400, 431)
