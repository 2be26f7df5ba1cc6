"""An ASGI application's answer as values."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from qwenkit.cluster.ask import Ask, Body, Head
from qwenkit.cluster.exchange import exchange

pytestmark = pytest.mark.anyio
ASK = Ask(
    method="POST",
    path="/a b",
    raw_path=b"/a%20b",
    query=b"x=1",
    headers=((b"host", b"here"),),
    body=b"hello",
    client=("1.2.3.4", 5),
)
START = {"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]}


def piece(content: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def test_the_application_sees_the_request_as_it_came() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, received=await receive())
        await send(START)
        await send(piece(b"", more=False))

    assert [part async for part in exchange(app, ASK)] == [Head(201, ((b"a", b"b"),))]
    assert seen["received"] == {"type": "http.request", "body": b"hello", "more_body": False}
    asked = {key: seen[key] for key in ("path", "raw_path", "query_string", "client", "method")}
    assert asked == {
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"x=1",
        "client": ("1.2.3.4", 5),
        "method": "POST",
    }


async def test_what_has_piled_up_comes_as_one_piece_and_what_is_said_later_as_the_next() -> None:
    later = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for word in (b"one ", b"two ", b"three"):
            await send(piece(word))
        await later.wait()
        await send(piece(b"four", more=False))

    async with aclosing(exchange(app, ASK)) as parts:
        assert [await anext(parts), await anext(parts)] == [
            Head(201, ((b"a", b"b"),)),
            Body(b"one two three"),
        ]
        later.set()
        assert [part async for part in parts] == [Body(b"four")]


async def test_the_application_is_told_when_the_client_leaves() -> None:
    told = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        assert await receive() == {"type": "http.disconnect"}
        told.set()

    async with aclosing(exchange(app, ASK)) as parts:
        await anext(parts)
    assert told.is_set()


async def test_a_failure_of_the_application_is_the_reader_s() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _ = [part async for part in exchange(app, ASK)]
