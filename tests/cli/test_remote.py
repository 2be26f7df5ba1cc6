from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from qwenkit.chat.events import (
    ChatDone,
    ChatEvent,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwenkit.chat.remote import ChunkReader, RemoteServer, base_url, event_data
from qwenkit.cli.chat.session import AnswerOptions
from qwenkit.cli.chat.source import RemoteSource
from qwenkit.errors import (
    InvalidSettings,
    RemoteError,
    RemoteUnreachable,
    UnknownModel,
)

pytestmark = pytest.mark.anyio

QUESTION = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}


async def answered(url: str, **options: str) -> list[ChatEvent]:
    async with (
        RemoteServer(url, **options) as server,
        aclosing(server.stream_chat(QUESTION)) as all_,
    ):
        return [event async for event in all_]


def tool_chunk(**call) -> dict:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}


def finish(reason: str) -> dict:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


async def test_a_streamed_answer_arrives_as_the_events_of_a_local_model(fake) -> None:
    first, *middle, last = await answered(fake.url)
    assert first == ChatStarted(0, 0)
    assert middle == [
        ChoiceDelta(0, (ReasoningDelta("Let me "),)),
        ChoiceDelta(0, (ReasoningDelta("think."),)),
        ChoiceDelta(0, (TextDelta("**Hello** "),)),
        ChoiceDelta(0, (TextDelta("there.\n\n- one\n"),)),
        ChoiceDelta(0, (TextDelta("- two"),)),
        ChoiceDone(0, ChatFinish.STOP),
    ]
    assert isinstance(last, ChatDone)
    assert last.usage == Usage(n_prompt=12, n_cached=4, n_completion=9, n_reasoning=3)
    assert last.timings.prefill_s >= 0
    assert last.timings.decode_s >= 0


async def test_usage_is_asked_for(fake) -> None:
    await answered(fake.url)
    assert fake.bodies[0]["stream_options"] == {"include_usage": True}


async def test_reasoning_may_be_spelled_as_ollama_does(fake) -> None:
    fake.chunks = [{"choices": [{"delta": {"reasoning": "hm"}}]}, finish("stop")]
    assert ChoiceDelta(0, (ReasoningDelta("hm"),)) in await answered(fake.url)


async def test_tool_calls_start_once_and_grow(fake) -> None:
    fake.chunks = [
        tool_chunk(index=0, id="call_1", function={"name": "add", "arguments": ""}),
        tool_chunk(index=0, function={"arguments": '{"a"'}),
        tool_chunk(index=0, function={"arguments": ": 1}"}),
        tool_chunk(index=1, id="call_2", function={"name": "now", "arguments": "{}"}),
        finish("tool_calls"),
    ]
    deltas = [e.deltas for e in await answered(fake.url) if isinstance(e, ChoiceDelta)]
    assert deltas == [
        (ToolCallStarted(0, "call_1", "add"),),
        (ToolCallDelta(0, '{"a"'),),
        (ToolCallDelta(0, ": 1}"),),
        (ToolCallStarted(1, "call_2", "now"), ToolCallDelta(1, "{}")),
    ]


async def test_characters_that_python_takes_for_line_ends_stay_in_the_text(fake) -> None:
    text = "a\u2028b\x85c\x0bd\x1ce"
    fake.chunks = [{"choices": [{"delta": {"content": text}}]}, finish("stop")]
    assert ChoiceDelta(0, (TextDelta(text),)) in await answered(fake.url)


async def test_an_unknown_reason_to_finish_is_a_stop(fake) -> None:
    fake.chunks = [finish("content_filter")]
    assert ChoiceDone(0, ChatFinish.STOP) in await answered(fake.url)


async def test_closing_the_stream_closes_the_connection(fake) -> None:
    fake.hold_after = 3
    async with RemoteServer(fake.url) as server:
        async with aclosing(server.stream_chat(QUESTION)) as events:
            async for event in events:
                if isinstance(event, ChoiceDelta):
                    break
        # On another thread: the transport closes its socket in this loop's next turn.
        assert await asyncio.to_thread(fake.client_left.wait, 10)


@pytest.mark.parametrize("payload", ["no json", "[1]", '"text"'])
async def test_what_is_no_chunk_is_an_error_of_the_server(payload: str) -> None:
    with pytest.raises(RemoteError):
        list(ChunkReader().read(payload.encode()))


async def test_an_error_in_the_stream_is_raised_with_its_message(fake) -> None:
    fake.chunks = [{"error": {"message": "out of memory", "code": 500}}]
    with pytest.raises(RemoteError, match="out of memory"):
        await answered(fake.url)


async def test_a_stream_that_breaks_off_is_an_error(fake) -> None:
    fake.chunks, fake.ends_properly = fake.chunks[:4], False
    with pytest.raises(RemoteError):
        await answered(fake.url)


async def test_a_refused_key_says_what_to_set(fake) -> None:
    fake.needs_key = True
    with pytest.raises(RemoteError) as caught:
        await answered(fake.url, api_key="wrong")
    assert caught.value.status == 401
    assert "OPENAI_API_KEY" in caught.value.hint
    await answered(fake.url, api_key="correct")


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        with pytest.raises(RemoteUnreachable):
            await answered(f"http://127.0.0.1:{bound.getsockname()[1]}")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("https://h/api/v1", "https://h/api/v1"),
    ],
)
async def test_v1_is_added_to_an_address_without_a_path(given: str, used: str) -> None:
    assert str(base_url(given)) == used


@pytest.mark.parametrize("url", ["", "h:1", "localhost", "ftp://h", "http://", "http://h:port"])
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings):
        base_url(url)


async def pieces_of(data: bytes, size: int) -> AsyncIterator[bytes]:
    for i in range(0, len(data), size):
        yield data[i : i + size]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_events_are_the_same_however_the_bytes_arrive(size: int) -> None:
    data = b": ping\n\ndata: one\n\nevent: x\ndata:two\r\n\r\ndata: [DONE]\n\ndata: cut"
    assert [d async for d in event_data(pieces_of(data, size))] == [b"one", b"two", b"[DONE]"]


async def test_the_only_model_of_a_server_is_taken(fake) -> None:
    source = await RemoteSource.connect(fake.url, api_key=None, model=None)
    assert source.name == "fake"
    await source.close()


async def test_of_several_models_one_must_be_named_and_can_be_changed(fake) -> None:
    fake.models = ["small", "large"]
    with pytest.raises(UnknownModel) as caught:
        await RemoteSource.connect(fake.url, api_key=None, model=None)
    assert "small, large" in caught.value.hint
    source = await RemoteSource.connect(fake.url, api_key=None, model="large")
    with pytest.raises(UnknownModel):
        await source.switch("huge")
    assert source.name == "large"
    await source.switch("small")
    assert source.name == "small"
    await source.close()


async def test_options_that_are_set_are_part_of_the_request(fake) -> None:
    source = await RemoteSource.connect(fake.url, api_key=None, model=None)
    options = AnswerOptions(thinking=False, max_tokens=5)
    async with aclosing(source.answer([{"role": "user", "content": "hi"}], options)) as events:
        async for _ in events:
            pass
    await source.close()
    body = fake.bodies[0]
    assert body["max_tokens"] == 5
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "temperature" not in body
