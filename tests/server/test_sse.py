import asyncio
import contextlib

import pytest

from qwenkit.errors import EngineBusy, EngineStopped
from qwenkit.server.errors import ClientGone
from qwenkit.server.sse import DONE, PING, EventStream

pytestmark = pytest.mark.anyio


class Connection:
    """An ASGI connection whose client leaves when told to."""

    def __init__(self):
        self.sent = []
        self.gone = asyncio.Event()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def writes(self):
        return [message["body"] for message in self.sent[1:] if message["body"]]


async def play(chunks, connection, *, ping_s=30.0, ping=PING):
    response = EventStream(chunks, ping_s=ping_s, ping=ping)
    await response({"type": "http"}, connection.receive, connection.send)


async def test_chunks_that_are_ready_together_are_written_together():
    turn = asyncio.Event()

    async def chunks():
        yield b"a"
        yield b"b"
        turn.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        yield b"c"
        yield DONE

    connection = Connection()
    await play(chunks(), connection)
    assert connection.writes == [b"ab", b"c" + DONE]


async def test_an_error_before_the_first_chunk_is_raised_and_nothing_is_sent():
    async def chunks():
        raise EngineBusy("full", retry_after_s=3)
        yield b""

    connection = Connection()
    with pytest.raises(EngineBusy):
        await play(chunks(), connection)
    assert connection.sent == []


async def test_an_error_in_mid_stream_is_the_last_event(events):
    async def chunks():
        yield b"data: 1\n\n"
        raise EngineStopped("the server is shutting down")

    connection = Connection()
    await play(chunks(), connection)
    first, last = events(connection.body.decode())
    assert first == 1
    assert last["error"]["code"] == "shutting_down"
    assert b"event: error\n" in connection.body
    assert not connection.sent[-1]["more_body"]


async def test_a_bug_in_mid_stream_shows_an_id_and_no_detail(events, caplog):
    async def chunks():
        yield b"data: 1\n\n"
        raise LookupError("secret detail")

    connection = Connection()
    await play(chunks(), connection)
    error = events(connection.body.decode())[-1]["error"]
    assert error["code"] == "internal_error"
    assert b"secret" not in connection.body
    assert "secret detail" in caplog.text
    assert error["message"].split()[-1] in caplog.text


@pytest.mark.parametrize("ping", [PING, b'event: ping\ndata: {"type":"ping"}\n\n'])
async def test_silence_is_filled_with_pings_before_the_first_chunk_and_after_it(ping):
    pinged = asyncio.Event()

    class Pinged(Connection):
        async def send(self, message):
            await super().send(message)
            if message.get("body") == ping:
                pinged.set()

    async def chunks():
        await pinged.wait()
        pinged.clear()
        yield b"data: 1\n\n"
        await pinged.wait()
        yield DONE

    connection = Pinged()
    await asyncio.wait_for(play(chunks(), connection, ping_s=0.01, ping=ping), 10)
    writes = connection.writes
    assert writes[0] == ping
    assert writes[-1].endswith(DONE)
    assert ping in writes[writes.index(b"data: 1\n\n") :]


async def test_a_client_that_goes_away_closes_the_generator():
    connection = Connection()
    closed = asyncio.Event()

    async def chunks():
        try:
            yield b"a"
            connection.gone.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    await asyncio.wait_for(play(chunks(), connection), 10)
    assert closed.is_set()


async def test_a_client_that_goes_away_before_the_first_chunk_closes_the_generator():
    connection = Connection()
    closed = asyncio.Event()

    async def chunks():
        try:
            connection.gone.set()
            await asyncio.Event().wait()
            yield b""
        finally:
            closed.set()

    with pytest.raises(ClientGone):
        await asyncio.wait_for(play(chunks(), connection), 10)
    assert closed.is_set()


async def test_a_cancelled_response_closes_the_generator():
    connection = Connection()
    begun, closed = asyncio.Event(), asyncio.Event()

    async def chunks():
        try:
            yield b"a"
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    task = asyncio.create_task(play(chunks(), connection))
    await begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert closed.is_set()
