"""What clients meet at the door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from qwenkit.cluster.door import Door, DoorPlan
from qwenkit.server.auth import KeyRing

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
EVENTS = ((b"content-type", b"text/event-stream; charset=utf-8"),)
KEY = {"Authorization": "Bearer key"}


def plan(*, max_body_bytes: int = 1000, client_timeout_s: float = 30.0) -> DoorPlan:
    return DoorPlan(
        keys=KeyRing(users=["key"], admins=[]),
        max_body_bytes=max_body_bytes,
        client_timeout_s=client_timeout_s,
    )


@asynccontextmanager
async def at_the_door(fleet: Any, **limits: float) -> Any:
    door = Door(plan(**limits), fleet)
    transport = httpx.ASGITransport(app=door, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        yield client


async def test_an_answer_comes_as_its_replica_gave_it(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"status": 418, "content": b"tea", "headers": ((b"x-own", b"1"),)})
    async with at_the_door(made.fleet) as client:
        answer = await client.post(f"{CHAT}?x=1", headers=KEY, content=b'{"model": "m"}')
    assert (answer.status_code, answer.content, answer.headers["x-own"]) == (418, b"tea", "1")
    asked = made.replicas["a"].asked[0]
    assert (asked.query, asked.body) == (b"x=1", b'{"model": "m"}')
    assert asked.target.affinity.model == "m"


async def test_a_body_without_a_key_is_not_read(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"status": 401})
    async with at_the_door(made.fleet) as client:
        assert (await client.post(CHAT, content=b"{}")).status_code == 401
        assert (await client.post(CHAT, content=b"{}", headers=KEY)).status_code == 401
        await client.post("/v1/feedback/label-studio", content=b"{}")
    assert [each.body for each in made.replicas["a"].asked] == [b"", b"{}", b"{}"]


async def test_a_body_over_the_limit_reaches_no_replica(fakes: Callable[..., Any]) -> None:
    made = fakes(a={})
    async with at_the_door(made.fleet, max_body_bytes=10) as client:
        answer = await client.post(CHAT, content=b"x" * 11, headers=KEY)
    assert answer.status_code == 413
    assert not made.replicas["a"].asked


async def test_with_no_replica_left_the_client_is_told_when_to_come_again(
    fakes: Callable[..., Any],
) -> None:
    async with at_the_door(fakes(a={"dies": "accepted"}).fleet) as client:
        answer = await client.post(CHAT, content=b"{}", headers=KEY)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["code"]


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
async def test_a_stream_whose_replica_dies_ends_with_an_error_event(
    fakes: Callable[..., Any], path: str
) -> None:
    async with at_the_door(fakes(a={"dies": "head", "headers": EVENTS}).fleet) as client:
        answer = await client.post(path, content=b"{}", headers=KEY)
    named, data, _, _ = answer.text.split("\n")
    assert named == "event: error"
    error = json.loads(data.removeprefix("data: "))
    assert error["error"]["message"]
    assert error.get("type") == ("error" if path == "/v1/messages" else None)


async def test_anthropic_s_clients_are_refused_in_their_own_words(
    fakes: Callable[..., Any],
) -> None:
    async with at_the_door(fakes(a={"dies": "accepted"}).fleet, max_body_bytes=10) as client:
        lost = await client.post("/v1/messages", content=b"{}", headers=KEY)
        large = await client.post("/v1/messages", content=b"x" * 11, headers=KEY)
    assert lost.json()["error"]["type"] == "overloaded_error"
    assert large.json()["error"]["type"] == "request_too_large"


async def test_a_body_that_never_comes_is_not_waited_for(fakes: Callable[..., Any]) -> None:
    made = fakes(a={})

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    sent: list[Any] = []
    chunks = aiter(body())

    async def receive() -> Any:
        return {"type": "http.request", "body": await anext(chunks), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer key")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b""}
    door = Door(plan(client_timeout_s=0.01), made.fleet)
    await door({**scope, "headers": headers}, receive, send)
    assert sent[0]["status"] == 408
    assert not made.replicas["a"].asked


async def test_a_response_is_gone_on_with_where_it_was_written(
    fakes: Callable[..., Any],
) -> None:
    made = fakes(a={"content": b'{"id": "resp_1", "object": "response"}'}, b={})
    async with at_the_door(made.fleet) as client:
        await client.post("/v1/responses", json={"input": "hello"}, headers=KEY)
        body = {"input": "and now?", "previous_response_id": "resp_1"}
        await client.post("/v1/responses", json=body, headers=KEY)
    assert [each.target.prefers for each in made.replicas["a"].asked] == [None, "a"]


async def test_a_response_is_deleted_wherever_something_of_it_is(
    fakes: Callable[..., Any],
) -> None:
    made = fakes(a={"status": 404}, b={"content": b"gone"}, c={"status": 404})
    async with at_the_door(made.fleet) as client:
        answer = await client.delete("/v1/responses/resp_1", headers=KEY)
    assert (answer.status_code, answer.content) == (200, b"gone")
    assert [len(each.asked) for each in made.replicas.values()] == [1, 1, 1]


async def test_another_answer_that_breaks_off_is_no_whole_one(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"dies": "head"})
    transport = httpx.ASGITransport(app=Door(plan(), made.fleet))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        with pytest.raises(Exception, match="gone"):
            await client.get("/v1/models", headers=KEY)


async def test_an_mcp_session_stays_with_the_replica_that_opened_it(
    fakes: Callable[..., Any],
) -> None:
    made = fakes(a={}, b={"headers": ((b"mcp-session-id", b"s1"),)})
    made.replicas["a"].dies = "accepted"
    async with at_the_door(made.fleet) as client:
        lost = await client.post("/mcp", content=b"{}", headers=KEY)
        assert lost.status_code == 503
        made.replicas["a"].dies = ""
        answer = await client.post("/mcp", content=b"{}", headers={**KEY, "mcp-session-id": "s1.b"})
    assert answer.headers["mcp-session-id"] == "s1.b"
    assert dict(made.replicas["b"].asked[0].headers)[b"mcp-session-id"] == b"s1"


async def test_an_mcp_session_whose_replica_is_gone_is_unknown_to_another(
    fakes: Callable[..., Any],
) -> None:
    made = fakes(a={"status": 404, "content": b"no such session"})
    async with at_the_door(made.fleet) as client:
        lost = await client.post("/mcp", content=b"{}", headers={**KEY, "mcp-session-id": "s1.b"})
    assert (lost.status_code, lost.content) == (404, b"no such session")
    assert dict(made.replicas["a"].asked[-1].headers)[b"mcp-session-id"] == b"s1"


async def test_metrics_of_all_replicas_are_one_page(fakes: Callable[..., Any]) -> None:
    page = b"# TYPE up gauge\nup 1.0\n"
    made = fakes(a={"content": page}, b={"content": page})
    async with at_the_door(made.fleet) as client:
        answer = await client.get("/metrics", headers=KEY)
    assert 'up{replica="a"} 1.0' in answer.text
    assert 'up{replica="b"} 1.0' in answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_what_a_replica_refuses_for_all_is_refused(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"status": 401, "content": b"no"}, b={"status": 401, "content": b"no"})
    async with at_the_door(made.fleet) as client:
        answer = await client.get("/metrics")
    assert (answer.status_code, answer.content) == (401, b"no")
