from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest

from qwenkit.chat.events import (
    ChatDone,
    ChatEvent,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    Delta,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwenkit.mcp.client import McpTool, ToolResult
from qwenkit.mcp.rounds import ToolEnded, ToolStarted, stream_rounds

pytestmark = pytest.mark.anyio

LOOK = McpTool(server="s", name="look", own_name="look", description="", parameters={})


class Model:
    """Gives one prepared answer after the other, and remembers what it was asked."""

    def __init__(self, *answers: Sequence[Delta]) -> None:
        self._answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.n_open = 0

    async def __call__(
        self, messages: Sequence[Mapping[str, Any]], *, first: bool, last: bool, n_spent: int
    ) -> AsyncGenerator[ChatEvent]:
        self.asked.append(
            {"messages": list(messages), "first": first, "last": last, "n_spent": n_spent}
        )
        deltas = self._answers.pop(0)
        called = any(isinstance(each, ToolCallStarted) for each in deltas)
        self.n_open += 1
        try:
            yield ChatStarted(10, 0)
            for delta in deltas:
                yield ChoiceDelta(0, (delta,))
            yield ChoiceDone(0, ChatFinish.TOOL_CALLS if called else ChatFinish.STOP)
            yield ChatDone(Usage(10, 2, 5, 1), Timings(1.0, 2.0, 3.0))
        finally:
            self.n_open -= 1


def calling(arguments: str = "{}", name: str = "look", index: int = 0) -> list[Delta]:
    return [ToolCallStarted(index, f"call_{index}", name), ToolCallDelta(index, arguments)]


async def say_seen(name: str, given: Mapping[str, Any]) -> ToolResult:
    return ToolResult(f"seen {dict(given)}")


async def events_of(model: Model, call: Any = say_seen, **options: Any) -> list[Any]:
    messages = [{"role": "user", "content": "?"}]
    return [each async for each in stream_rounds(model, messages, [LOOK], call, **options)]


async def test_an_answer_without_calls_is_one_round() -> None:
    model = Model([TextDelta("hi")])
    events = await events_of(model)
    assert [type(each) for each in events] == [ChatStarted, ChoiceDelta, ChoiceDone, ChatDone]
    assert model.asked[0]["first"]


async def test_a_stream_starts_once_ends_once_and_counts_every_round() -> None:
    model = Model([TextDelta("a"), *calling()], [TextDelta("b")])
    events = await events_of(model)
    kinds = [type(each) for each in events if not isinstance(each, ChoiceDelta)]
    assert kinds == [ChatStarted, ToolStarted, ToolEnded, ChoiceDone, ChatDone]
    assert events[-1] == ChatDone(Usage(20, 4, 10, 2), Timings(2.0, 4.0, 6.0))
    text = [d.text for e in events if isinstance(e, ChoiceDelta) for d in e.deltas]
    assert text == ["a", "\n\nb"]


async def test_the_next_round_knows_what_was_called_and_what_came_of_it() -> None:
    model = Model([TextDelta("a"), *calling('{"at": 1}')], [TextDelta("b")])
    await events_of(model)
    _, said, result = model.asked[1]["messages"]
    assert said["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": 1}'}
    assert (result["tool_call_id"], result["content"]) == ("call_0", "seen {'at': 1}")
    assert (model.asked[1]["first"], model.asked[1]["n_spent"]) == (False, 5)


@pytest.mark.parametrize("arguments", ["{", "[]", "5", '"x"', "[" * 100_000])
async def test_arguments_that_are_no_object_are_told_and_nothing_is_called(arguments: str) -> None:
    async def call(name: str, given: Mapping[str, Any]) -> ToolResult:
        raise AssertionError

    events = await events_of(Model(calling(arguments), [TextDelta("b")]), call)
    (ended,) = [each for each in events if isinstance(each, ToolEnded)]
    assert ended.result.is_error


async def test_calls_of_a_round_run_side_by_side_and_end_in_their_order() -> None:
    arrived: list[str] = []
    everyone = asyncio.Event()

    async def call(name: str, given: Mapping[str, Any]) -> ToolResult:
        arrived.append(str(given["n"]))
        if len(arrived) == 2:
            everyone.set()
        await everyone.wait()
        return ToolResult(str(given["n"]))

    model = Model([*calling('{"n": 1}'), *calling('{"n": 2}', index=1)], [TextDelta("b")])
    events = await events_of(model, call)
    ended = [each for each in events if isinstance(each, ToolEnded)]
    assert [each.result.text for each in ended] == ["1", "2"]
    assert [each.started.index for each in ended] == [0, 1]


async def test_a_clients_call_ends_the_answer_and_is_numbered_from_zero() -> None:
    model = Model([*calling(), *calling("{}", "theirs", index=1)])
    events = await events_of(model)
    deltas = [d for e in events if isinstance(e, ChoiceDelta) for d in e.deltas]
    assert deltas == [ToolCallStarted(0, "call_1", "theirs"), ToolCallDelta(0, "{}")]
    assert events[-2] == ChoiceDone(0, ChatFinish.TOOL_CALLS)


async def test_the_last_round_is_told_that_it_is_the_last() -> None:
    model = Model(calling(), calling(), [TextDelta("b")])
    await events_of(model, max_rounds=2)
    assert [each["last"] for each in model.asked] == [False, False, True]


async def test_calls_over_the_limit_do_not_run_though_one_round_makes_them() -> None:
    model = Model([*calling(), *calling(index=1), *calling(index=2)], [TextDelta("b")])
    events = await events_of(model, max_calls=1)
    ended = [each.result.is_error for each in events if isinstance(each, ToolEnded)]
    assert ended == [False, True, True]
    assert model.asked[1]["last"]


async def test_calls_that_no_token_is_left_for_do_not_run() -> None:
    events = await events_of(Model(calling()), max_tokens=5)
    assert events[-2] == ChoiceDone(0, ChatFinish.LENGTH)
    assert not any(isinstance(each, ToolStarted) for each in events)


async def test_cancelling_the_answer_cancels_the_call_that_runs() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def call(name: str, given: Mapping[str, Any]) -> ToolResult:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    answering = asyncio.create_task(events_of(Model(calling()), call))
    await started.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert cancelled.is_set()


async def test_closing_the_stream_closes_the_models_answer() -> None:
    model = Model([TextDelta("a"), TextDelta("b")])
    stream = stream_rounds(model, [], [LOOK], say_seen)
    await anext(stream)
    assert model.n_open == 1
    await stream.aclose()
    assert model.n_open == 0
