"""An answer's events become Anthropic's, which its own client puts together again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.chat.events import (
    ChatDone,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    Delta,
    ReasoningDelta,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwenkit.errors import DecodeFailed
from qwenkit.mcp.client import McpTool, ToolResult
from qwenkit.mcp.rounds import RoundEvent, ToolEnded, ToolStarted
from qwenkit.server.anthropic.answer import MessageEvents, encode, whole_message
from qwenkit.server.anthropic.signature import is_altered

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
FITTING = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}
ARGUMENTS = st.dictionaries(WORDS, st.integers() | WORDS | st.lists(WORDS), max_size=3)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def answers(draw: st.DrawFn) -> list[Delta]:
    cuts = st.lists(st.integers(0, 40), max_size=4)
    deltas: list[Delta] = [*map(ReasoningDelta, draw(st.lists(WORDS, max_size=3)))]
    for index in range(draw(st.integers(0, 3))):
        deltas += [TextDelta(each) for each in draw(st.lists(WORDS, max_size=3))]
        deltas.append(ToolCallStarted(index, f"call_{index}", draw(WORDS)))
        written = json.dumps(draw(ARGUMENTS))
        deltas += [ToolCallDelta(index, each) for each in pieces(written, draw(cuts))]
    return [*deltas, *map(TextDelta, draw(st.lists(WORDS, max_size=2)))]


def told(
    deltas: list[Delta],
    *,
    finish: ChatFinish = ChatFinish.TOOL_CALLS,
    stop: str | None = None,
    n_completion: int = 9,
    shows_thinking: bool = True,
) -> list[dict[str, Any]]:
    events: list[RoundEvent] = [
        ChatStarted(7, 3),
        *(ChoiceDelta(0, (delta,)) for delta in deltas),
        ChoiceDone(0, finish, n_completion, 2, stop),
        ChatDone(Usage(7, 3, n_completion, 2), Timings(0, 0, 0)),
    ]
    return spoken(events, shows_thinking=shows_thinking)


def spoken(events: list[RoundEvent], *, shows_thinking: bool = True) -> list[dict[str, Any]]:
    message = MessageEvents(
        message_id="msg_1", model="m", max_tokens=9, shows_thinking=shows_thinking
    )
    return [each for event in events for each in message.follow(event)]


async def summed(events: list[dict[str, Any]]) -> dict[str, Any]:
    async def stream() -> AsyncIterator[dict[str, Any]]:
        for event in events:
            yield event

    return await whole_message(stream())


def accumulated(events: list[dict[str, Any]]) -> dict[str, Any]:
    """As the client sums up what it is sent."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        data = json.loads(encode(event).split("data: ", 1)[1])
        snapshot = accumulate_event(event=data, current_snapshot=snapshot, json_bufs=buffers)
    dumped: dict[str, Any] = snapshot.model_dump(exclude_unset=True)
    return dumped


@pytest.mark.anyio
@given(deltas=answers())
async def test_the_clients_sum_of_a_stream_is_the_message_without_streaming(
    deltas: list[Delta],
) -> None:
    events = told(deltas)
    whole, client = await summed(events), accumulated(events)
    assert whole["content"] == client["content"]
    assert whole["stop_reason"] == client["stop_reason"]
    assert whole["usage"]["output_tokens"] == client["usage"]["output_tokens"]


@given(deltas=answers())
def test_every_event_is_one_line_and_every_block_ends_before_the_next_begins(
    deltas: list[Delta],
) -> None:
    events = told(deltas)
    open_block: int | None = None
    n_blocks = 0
    fitting: set[str] = set()
    for event in events:
        assert len(encode(event).splitlines()) == 3
        match event["type"]:
            case "content_block_start":
                assert open_block is None
                assert event["index"] == n_blocks
                open_block, n_blocks = event["index"], n_blocks + 1
                fitting = FITTING[event["content_block"]["type"]]
            case "content_block_delta":
                assert event["index"] == open_block
                assert event["delta"]["type"] in fitting
            case "content_block_stop":
                assert event["index"] == open_block
                open_block = None
    assert open_block is None
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]


@pytest.mark.anyio
async def test_thinking_is_signed_and_may_be_left_out() -> None:
    deltas: list[Delta] = [ReasoningDelta("a "), ReasoningDelta("b"), TextDelta("c")]
    thinking, _ = (await summed(told(deltas)))["content"]
    assert thinking["thinking"] == "a b"
    assert not is_altered("a b", thinking["signature"])
    assert is_altered("a c", thinking["signature"])
    hidden, text = (await summed(told(deltas, shows_thinking=False)))["content"]
    assert (hidden["thinking"], text["text"]) == ("", "c")
    assert hidden["signature"] == thinking["signature"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("finish", "stop", "n_completion", "reason"),
    [
        (ChatFinish.STOP, None, 5, "end_turn"),
        (ChatFinish.STOP, "END", 5, "stop_sequence"),
        (ChatFinish.TOOL_CALLS, None, 5, "tool_use"),
        (ChatFinish.LENGTH, None, 9, "max_tokens"),
        (ChatFinish.LENGTH, None, 5, "model_context_window_exceeded"),
    ],
)
async def test_why_an_answer_ended_is_told(
    finish: ChatFinish, stop: str | None, n_completion: int, reason: str
) -> None:
    events = told([TextDelta("a")], finish=finish, stop=stop, n_completion=n_completion)
    message = await summed(events)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, stop)


@pytest.mark.anyio
async def test_reused_tokens_are_counted_apart_from_computed_ones() -> None:
    usage = (await summed(told([TextDelta("a")])))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (4, 3)


@pytest.mark.anyio
async def test_a_call_that_was_cut_off_has_what_there_is_of_its_input() -> None:
    deltas: list[Delta] = [
        ToolCallStarted(0, "call_0", "weather"),
        ToolCallDelta(0, '{"city": "Oslo", "days": 3, "un'),
    ]
    cut = await summed(told(deltas, finish=ChatFinish.LENGTH))
    assert cut["content"][0]["input"] == {"city": "Oslo", "days": 3}
    with pytest.raises(DecodeFailed):
        await summed(told(deltas))


@pytest.mark.anyio
async def test_tools_that_ran_here_have_blocks_of_their_own() -> None:
    tool = McpTool(
        server="files", name="files_read", own_name="read", description="", parameters={}
    )
    started = ToolStarted(0, "call_0", tool, '{"path": "a"}')
    done = ToolEnded(started, ToolResult("text", is_error=False), 0.1)
    said = [ChoiceDelta(0, (TextDelta(each),)) for each in ("Look.", "\n\nIt says text.")]
    end = [ChoiceDone(0, ChatFinish.STOP), ChatDone(Usage(7, 3, 5, 0), Timings(0, 0, 0))]
    events = spoken([ChatStarted(7, 3), said[0], started, done, said[1], *end])
    message = await summed(events)
    assert message["content"] == [
        {"type": "text", "text": "Look."},
        {
            "type": "mcp_tool_use",
            "id": "call_0",
            "name": "read",
            "server_name": "files",
            "input": {"path": "a"},
        },
        {
            "type": "mcp_tool_result",
            "tool_use_id": "call_0",
            "is_error": False,
            "content": [{"type": "text", "text": "text"}],
        },
        {"type": "text", "text": "It says text."},
    ]
