"""Bounds how long a client may take over its request and its answer. Knows bytes and a clock.

A client that sends byte by byte, or asks and never reads, costs nothing but a socket, and sockets
are what a server has few of. Of a connection's phases each has its limit:

    head     whole within `timeout_s` of the connection, or of its first byte on one that is reused
    body     whole within `timeout_s` and a second for each `MIN_RATE` bytes; what a client goes on
             to send after its answer gets `timeout_s`
    answer   while there is more of it than the system buffers, as much is read in `timeout_s` as
             `MIN_RATE` makes of it

A request that is late is answered with 408, and what was computed for it ends as if the client had
gone. How long a connection may idle between requests is uvicorn's.
"""

from __future__ import annotations

import asyncio
import sys
from enum import Enum, auto
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from qwenkit.errors import InvalidRequest
from qwenkit.server.errors import Failure, TooSlow, failure

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ

MIN_RATE = 2000
"""Bytes a second at which bodies must come and answers be read: less than mobile networks have."""


class _Awaited(Enum):
    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class GuardedConnection(H11Protocol):
    """One client's connection.

    Attributes:
        timeout_s: Seconds that the client may take.
    """

    timeout_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._awaited = _Awaited.NOTHING
        self._since = 0.0
        self._n_received = 0
        self._receiving: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._n_unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._await(_Awaited.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        super().connection_lost(exc)
        self._await(_Awaited.NOTHING)
        self._stop_sending_clock()

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and see what is awaited after them."""
        self._n_received += len(data)
        super().data_received(data)
        self._look_again()

    def on_response_complete(self) -> None:
        """See what is awaited after an answer."""
        super().on_response_complete()
        self._look_again()

    def pause_writing(self) -> None:
        """The client does not read: its time begins."""
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        if not self.transport.is_closing():  # the rest of a last answer has its time too
            self._stop_sending_clock()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even where its last answer is still unread."""
        super().timeout_keep_alive_handler()
        self._await_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as other mistakes are answered."""
        self._end_with(failure(InvalidRequest(f"this is no HTTP/1.1 request: {msg}")))

    def _await_reading(self) -> None:
        """Give the client its time to read some of what was sent."""
        self._stop_sending_clock()
        self._n_unread = _n_unread(self.transport)
        self._sending = self.loop.call_later(self.timeout_s, self._check_reading)

    def _check_reading(self) -> None:
        if self._n_unread - _n_unread(self.transport) < self.timeout_s * MIN_RATE:
            self.transport.abort()
        else:
            self._await_reading()

    def _stop_sending_clock(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _look_again(self) -> None:
        match self.conn.their_state:
            case h11.SEND_BODY:
                awaited = _Awaited.BODY
            case h11.IDLE if self.conn.trailing_data[0] or self._awaited is _Awaited.HEAD:
                awaited = _Awaited.HEAD
            case _:
                awaited = _Awaited.NOTHING
        if awaited is not self._awaited:
            self._await(awaited)

    def _await(self, awaited: _Awaited) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None
        self._awaited = awaited
        self._n_received = 0
        if awaited is not _Awaited.NOTHING:
            self._since = self.loop.time()
            self._receiving = self.loop.call_later(self.timeout_s, self._check)

    def _check(self) -> None:
        if self.flow.read_paused:  # the server itself is not reading
            self._await(self._awaited)
            return
        left_s = self._since + self._allowed_s() - self.loop.time()
        if left_s > 0:
            self._receiving = self.loop.call_later(left_s, self._check)
            return
        self._receiving = None
        what = "its headers" if self._awaited is _Awaited.HEAD else "its body"
        self._end_with(failure(TooSlow(f"the request took over {self.timeout_s:g} s for {what}")))

    def _allowed_s(self) -> float:
        if self._awaited is _Awaited.HEAD or self.conn.our_state is not h11.SEND_RESPONSE:
            return self.timeout_s
        return self.timeout_s + self._n_received / MIN_RATE

    def _end_with(self, answer: Failure) -> None:
        """Close the connection, with an answer where one can be given still."""
        has_begun = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]
            has_begun = has_begun and not self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        said_something = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        if has_begun and said_something:
            self.transport.write(self._bytes_of(answer))
        self.transport.close()
        self._await_reading()

    def _bytes_of(self, answer: Failure) -> bytes:
        response = answer.response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        events = (
            h11.Response(status_code=response.status_code, headers=headers),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        )
        return b"".join(self.conn.send(event) or b"" for event in events)


def _n_unread(transport: asyncio.WriteTransport) -> int:
    """Bytes that were sent and that the client's machine has not confirmed, as far as is known."""
    n_buffered = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sys.platform != "linux" or sock is None or sock.fileno() < 0:
        return n_buffered
    # The system takes from the buffer in large pieces only: here a slow reader's progress shows.
    in_system = ioctl(sock.fileno(), TIOCOUTQ, bytes(4))
    return n_buffered + int.from_bytes(in_system, sys.byteorder)


def connection_with(*, timeout_s: float) -> type[asyncio.Protocol]:
    """The class of connections whose clients may take so many seconds."""
    return type("Connection", (GuardedConnection,), {"timeout_s": timeout_s})
