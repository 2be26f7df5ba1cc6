"""What the MCP server offers, to the official client, over a host that says what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp_types import PromptReference

from qwenkit.chat.events import (
    ChatDone,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    ReasoningDelta,
    TextDelta,
    Timings,
    Usage,
)
from qwenkit.errors import EngineBusy, InvalidRequest
from qwenkit.mcp.server.asking import reply_of
from qwenkit.mcp.server.build import build_server
from qwenkit.mcp.server.offer import OfferedModel, OnTokens, Question, Reply

pytestmark = pytest.mark.anyio


class FakeHost:
    """Answers as it was told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.loaded: list[tuple[str, Path, bool]] = []
        self.error: Exception | None = None
        self.cancelled = asyncio.Event()
        self.adapters = ["poet", "parrot"]

    async def ask(self, question: Question, on_tokens: OnTokens) -> Reply:
        self.questions.append(question)
        if self.error is not None:
            raise self.error
        if question.prompt == "for ever":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        await on_tokens(5, True)
        await on_tokens(9, False)
        return Reply(
            text="yes", reasoning="hm", model="m", finish="stop", n_prompt=3, n_completion=9
        )

    async def models(self) -> tuple[OfferedModel, ...]:
        adapters = (OfferedModel(name=name, kind="adapter") for name in self.adapters)
        return OfferedModel(name="m", kind="model", n_ctx=100), *adapters

    async def load_adapter(self, name: str, path: Path, *, replace: bool) -> OfferedModel:
        self.loaded.append((name, path, replace))
        return OfferedModel(name=name, kind="adapter", version="v1")


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture(params=["auto", "legacy"])
def connect(host: FakeHost, request: pytest.FixtureRequest) -> Callable[..., Client]:
    def connected(*, admin: bool = True) -> Client:
        return Client(build_server(host, is_admin=lambda _: admin), mode=request.param)

    return connected


async def test_every_argument_reaches_the_host(connect, host: FakeHost) -> None:
    given = {
        "question": "why?",
        "system": "Be brief.",
        "thinking": True,
        "model": "poet",
        "max_tokens": 7,
        "temperature": 0,
    }
    async with connect() as client:
        result = await client.call_tool("ask", given)
    assert host.questions == [
        Question(
            prompt="why?",
            system="Be brief.",
            thinking=True,
            model="poet",
            max_tokens=7,
            temperature=0.0,
        )
    ]
    assert result.content[0].text == "yes"
    assert result.structured_content == {
        "answer": "yes",
        "reasoning": "hm",
        "model": "m",
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "completion_tokens": 9,
    }


async def test_what_is_not_given_is_left_to_the_model(connect, host: FakeHost) -> None:
    async with connect() as client:
        await client.call_tool("ask", {"question": "why?"})
    assert host.questions == [Question(prompt="why?")]


async def test_a_long_answer_tells_how_far_it_is(connect) -> None:
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with connect() as client:
        await client.call_tool("ask", {"question": "why?"}, progress_callback=note)
    assert told == [(5.0, "thinking, 5 tokens"), (9.0, "answering, 9 tokens")]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (EngineBusy("the queue is full", retry_after_s=1, hint="wait"), "the queue is full"),
        (InvalidRequest("no model 'x'", hint="send another"), "hint: send another"),
    ],
)
async def test_a_failure_is_told_to_the_model(connect, host: FakeHost, error, says) -> None:
    host.error = error
    async with connect() as client:
        result = await client.call_tool("ask", {"question": "why?"})
    assert result.is_error
    assert says in result.content[0].text


async def test_cancelling_a_call_reaches_the_host(connect, host: FakeHost) -> None:
    async with connect() as client:
        call = asyncio.create_task(client.call_tool("ask", {"question": "for ever"}))
        async with asyncio.timeout(10):
            while not host.questions:
                await asyncio.sleep(0)
            call.cancel()
            await host.cancelled.wait()
        await asyncio.gather(call, return_exceptions=True)


async def test_loading_an_adapter_is_for_admins(connect, host: FakeHost) -> None:
    async with connect() as client:
        made = await client.call_tool("load_adapter", {"name": "new", "path": "/a/b"})
    assert host.loaded == [("new", Path("/a/b"), False)]
    assert made.structured_content["version"] == "v1"
    async with connect(admin=False) as client:
        assert "load_adapter" not in [tool.name for tool in (await client.list_tools()).tools]


async def test_models_and_adapters_are_listed_as_text_and_as_structure(connect) -> None:
    async with connect() as client:
        listed = await client.call_tool("list_models", {})
    names = [each["name"] for each in listed.structured_content["models"]]
    assert names == ["m", "poet", "parrot"]
    assert all(name in listed.content[0].text for name in names)


async def test_at_most_a_hundred_completions_are_told(connect, host: FakeHost) -> None:
    host.adapters = [f"p{i:03}" for i in range(150)]
    ref = PromptReference(type="ref/prompt", name="compare_adapter")
    async with connect() as client:
        found = (await client.complete(ref, {"name": "adapter", "value": "p"})).completion
    assert (len(found.values), found.total, found.has_more) == (100, 150, True)


async def test_every_tool_says_what_it_does_to_the_world(connect) -> None:
    async with connect() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert all(tool.description and tool.title and tool.annotations for tool in tools.values())
    assert tools["ask"].annotations.read_only_hint
    assert not tools["load_adapter"].annotations.read_only_hint
    properties = tools["ask"].input_schema["properties"].values()
    assert all(each["description"] for each in properties)


async def test_progress_is_told_now_and_then_and_not_with_every_token() -> None:
    told: list[tuple[int, bool]] = []

    async def note(n: int, thinking: bool) -> None:
        told.append((n, thinking))

    async def events() -> Any:
        yield ChatStarted(3, 0)
        yield ChoiceDelta(0, (ReasoningDelta("a"),))
        yield ChoiceDelta(0, ())
        yield ChoiceDelta(0, (TextDelta("b"),))
        yield ChoiceDone(0, ChatFinish.STOP)
        yield ChatDone(Usage(3, 0, 2, 1), Timings(0, 0, 0))

    reply = await reply_of(events(), "m", note, tell_every_s=0.0)
    assert (reply.text, reply.reasoning) == ("b", "a")
    assert told == [(1, True), (2, False)]
    told.clear()
    await reply_of(events(), "m", note, tell_every_s=60.0)
    assert told == []
