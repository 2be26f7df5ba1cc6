"""Which replica answers in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from qwenkit.cluster.ask import Ask, Body, Head
from qwenkit.cluster.lost import ReplicaLost
from qwenkit.cluster.retries import TRIES, Retries

pytestmark = pytest.mark.anyio
CHAT = Ask(method="POST", path="/v1/chat/completions", raw_path=b"", body=b"{}")
RATING = replace(CHAT, path="/v1/feedback")


async def answer(retries: Retries, ask: Ask = CHAT) -> tuple[int, bytes]:
    parts = [part async for part in retries.answer(ask)]
    heads = [part.status for part in parts if isinstance(part, Head)]
    assert len(heads) == 1
    return heads[0], b"".join(part.content for part in parts if isinstance(part, Body))


async def test_a_replica_that_dies_before_it_answers_is_not_noticed(
    fakes: Callable[..., Any],
) -> None:
    made = fakes(a={"dies": "accepted"}, b={"content": b"from b"})
    assert await answer(Retries(made.fleet)) == (200, b"from b")


@pytest.mark.parametrize(("dies", "n_tries"), [("before", TRIES), ("unheard", 1)])
async def test_a_request_that_nobody_takes_is_given_up(
    fakes: Callable[..., Any], dies: str, n_tries: int
) -> None:
    made = fakes(a={"dies": dies})
    with pytest.raises(ReplicaLost):
        await answer(Retries(made.fleet))
    assert len(made.replicas["a"].asked) == n_tries


@pytest.mark.parametrize("status", [503, 404])
async def test_what_one_cannot_answer_another_is_asked(
    fakes: Callable[..., Any], status: int
) -> None:
    made = fakes(a={"status": status}, b={"content": b"from b"})
    assert await answer(Retries(made.fleet)) == (200, b"from b")
    assert len(made.replicas["a"].asked) == 1


@pytest.mark.parametrize(
    ("method", "status"), [("POST", 404), ("GET", 404), ("GET", 400), ("POST", 503)]
)
async def test_an_id_of_a_response_is_looked_for_at_every_replica(
    fakes: Callable[..., Any], method: str, status: int
) -> None:
    others = {f"a{n}": {"status": status} for n in range(2 * TRIES)}
    made = fakes(**others, b={"content": b"from b"})
    path = "/v1/responses/resp_1"
    asked = replace(CHAT, method=method, path=path)
    assert await answer(Retries(made.fleet), asked) == (200, b"from b")


async def test_another_s_name_is_looked_for_at_a_few(fakes: Callable[..., Any]) -> None:
    made = fakes(**{f"a{n}": {"status": 404} for n in range(2 * TRIES)})
    assert (await answer(Retries(made.fleet)))[0] == 404
    assert sum(len(each.asked) for each in made.replicas.values()) == TRIES


async def test_what_none_can_answer_each_is_asked_once(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"status": 503}, b={"status": 503, "content": b"full"})
    assert await answer(Retries(made.fleet)) == (503, b"full")
    assert [len(each.asked) for each in made.replicas.values()] == [1, 1]


async def test_a_refusal_is_the_last_word(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"status": 400}, b={})
    assert (await answer(Retries(made.fleet)))[0] == 400
    assert not made.replicas["b"].asked


@pytest.mark.parametrize("bad", [{"status": 500}, {"dies": "head"}])
async def test_a_retried_request_does_not_meet_the_bad_replica_again(
    fakes: Callable[..., Any], bad: dict[str, Any]
) -> None:
    made = fakes(a=bad, b={"content": b"from b"})
    retries = Retries(made.fleet)
    try:
        status, _ = await answer(retries)
    except ReplicaLost:
        status = 500
    assert status == 500
    assert await answer(retries) == (200, b"from b")
    assert len(made.replicas["a"].asked) == 1


@pytest.mark.parametrize(
    ("body", "is_repeated"),
    [
        (b'{"tools": [{"type": "mcp", "server_label": "files"}]}', False),
        (b'{"tools": [{"type": "function"}]}', True),
        (b'{"tools": 7}', True),
        (b"tools", True),
    ],
)
async def test_tools_that_may_have_been_called_are_not_called_again(
    fakes: Callable[..., Any], body: bytes, is_repeated: bool
) -> None:
    made = fakes(a={"dies": "accepted"}, b={})
    try:
        await answer(Retries(made.fleet), replace(CHAT, body=body))
    except ReplicaLost:
        assert not is_repeated
    assert bool(made.replicas["b"].asked) == is_repeated


async def test_a_rating_whose_replica_dies_is_not_given_to_another(
    fakes: Callable[..., Any],
) -> None:
    made = fakes(a={"dies": "accepted"}, b={})
    with pytest.raises(ReplicaLost):
        await answer(Retries(made.fleet), RATING)
    assert not made.replicas["b"].asked
