"""Turns an answer's events into Anthropic's, and those into a whole message. Pure.

    message_start ─▶ (content_block_start ─▶ …_delta ─▶ content_block_stop), … ─▶ message_delta
    ─▶ message_stop

A block ends when something of another kind begins. The whole message is the sum of its events, as
a client puts them together.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterable, Iterator
from typing import Any

from pydantic_core import from_json

from qwenkit.chat.events import (
    ChatDone,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    Delta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwenkit.errors import DecodeFailed
from qwenkit.mcp.rounds import GAP, RoundEvent, ToolEnded, ToolStarted
from qwenkit.server.anthropic.schema import JsonObject
from qwenkit.server.anthropic.signature import sign
from qwenkit.server.openai.wire import to_json

PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def make_id() -> str:
    """A fresh id of a message."""
    return f"msg_{uuid.uuid4().hex}"


class MessageEvents:
    """Follows one answer.

    Args:
        message_id: The message's id.
        model: The served model's name.
        max_tokens: The longest answer that was asked for.
        shows_thinking: Whether the text of the thinking is told.
    """

    def __init__(
        self, *, message_id: str, model: str, max_tokens: int, shows_thinking: bool
    ) -> None:
        self._id = message_id
        self._model = model
        self._max_tokens = max_tokens
        self._shows_thinking = shows_thinking
        self._index = -1
        self._open = ""
        self._thinking: list[str] = []
        self._done: ChoiceDone | None = None

    def follow(self, event: RoundEvent) -> Iterator[JsonObject]:
        """The events that a chat's event means; often one, sometimes none."""
        match event:
            case ChoiceDelta(_, deltas):
                for delta in deltas:
                    yield from self._delta(delta)
            case ChatStarted(n_prompt, n_cached):
                yield self._message_start(Usage(n_prompt, n_cached, 0, 0))
            case ChoiceDone():
                self._done = event
            case ToolStarted():
                yield from self._our_call(event)
            case ToolEnded():
                yield from self._our_result(event)
            case ChatDone(usage):
                yield from self._close()
                yield self._message_delta(usage)
                yield {"type": "message_stop"}

    def _message_start(self, usage: Usage) -> JsonObject:
        message: JsonObject = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_json(usage),
        }
        return {"type": "message_start", "message": message}

    def _delta(self, delta: Delta) -> Iterator[JsonObject]:
        match delta:
            case TextDelta(text):
                yield from self._text(text)
            case ReasoningDelta(text):
                yield from self._thought(text)
            case ToolCallStarted(_, call_id, name):
                block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
                yield from self._begin("tool_use", block)
            case ToolCallDelta(_, arguments):
                yield self._add({"type": "input_json_delta", "partial_json": arguments})

    def _text(self, text: str) -> Iterator[JsonObject]:
        if self._open != "text":
            text = self._without_gap(text)
            yield from self._begin("text", {"type": "text", "text": ""})
        yield self._add({"type": "text_delta", "text": text})

    def _thought(self, text: str) -> Iterator[JsonObject]:
        if self._open != "thinking":
            text = self._without_gap(text)
            block = {"type": "thinking", "thinking": "", "signature": ""}
            yield from self._begin("thinking", block)
        self._thinking.append(text)
        if self._shows_thinking:
            yield self._add({"type": "thinking_delta", "thinking": text})

    def _without_gap(self, text: str) -> str:
        """A later round's beginning; what sets it off there is a block of its own here."""
        return text if self._index < 0 else text.removeprefix(GAP)

    def _our_call(self, started: ToolStarted) -> Iterator[JsonObject]:
        block = {
            "type": "mcp_tool_use",
            "id": started.id,
            "name": started.tool.own_name,
            "server_name": started.tool.server,
            "input": _read_input(started.arguments, partial=False) or {},
        }
        yield from self._begin("mcp_tool_use", block)
        yield from self._close()

    def _our_result(self, ended: ToolEnded) -> Iterator[JsonObject]:
        block = {
            "type": "mcp_tool_result",
            "tool_use_id": ended.started.id,
            "is_error": ended.result.is_error,
            "content": [{"type": "text", "text": ended.result.text}],
        }
        yield from self._begin("mcp_tool_result", block)
        yield from self._close()

    def _begin(self, kind: str, block: JsonObject) -> Iterator[JsonObject]:
        yield from self._close()
        self._index += 1
        self._open = kind
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _add(self, delta: JsonObject) -> JsonObject:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> Iterator[JsonObject]:
        if not self._open:
            return
        if self._open == "thinking":
            yield self._add({"type": "signature_delta", "signature": sign("".join(self._thinking))})
            self._thinking.clear()
        self._open = ""
        yield {"type": "content_block_stop", "index": self._index}

    def _message_delta(self, usage: Usage) -> JsonObject:
        stop = None if self._done is None else self._done.stop
        delta = {"stop_reason": self._stop_reason(usage), "stop_sequence": stop}
        return {"type": "message_delta", "delta": delta, "usage": usage_json(usage)}

    def _stop_reason(self, usage: Usage) -> str:
        done = self._done
        if done is not None and done.finish is ChatFinish.TOOL_CALLS:
            return "tool_use"
        if done is not None and done.finish is ChatFinish.LENGTH:
            fills_context = usage.n_completion < self._max_tokens
            return "model_context_window_exceeded" if fills_context else "max_tokens"
        return "end_turn" if done is None or done.stop is None else "stop_sequence"


def usage_json(usage: Usage) -> JsonObject:
    """Token counts as Anthropic spells them: reused ones are no part of `input_tokens`."""
    counts: JsonObject = {
        "input_tokens": usage.n_prompt - usage.n_cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.n_cached,
        "output_tokens": usage.n_completion,
    }
    if usage.n_reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.n_reasoning}
    return counts


def encode(event: JsonObject) -> str:
    """An event as it is sent."""
    return f"event: {event['type']}\ndata: {to_json(event)}\n\n"


async def whole_message(events: AsyncIterable[JsonObject]) -> JsonObject:
    """Put an answer's events together.

    Raises:
        DecodeFailed: The model called a tool with an input that is no JSON object.
    """
    message: JsonObject = {}
    inputs: dict[int, list[str]] = {}
    async for event in events:
        match event:
            case {"type": "message_start", "message": begun}:
                message = {**begun, "content": []}
            case {"type": "content_block_start", "content_block": block}:
                message["content"].append(dict(block))
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                _add_delta(message["content"][index], delta, inputs.setdefault(index, []))
            case {"type": "message_delta", "delta": delta, "usage": usage}:
                message |= {**delta, "usage": usage}
    for index, parts in inputs.items():
        if parts:
            _set_input(message["content"][index], "".join(parts), message["stop_reason"])
    return message


def _add_delta(block: JsonObject, delta: JsonObject, inputs: list[str]) -> None:
    match delta:
        case {"type": "text_delta", "text": text}:
            block["text"] += text
        case {"type": "thinking_delta", "thinking": text}:
            block["thinking"] += text
        case {"type": "signature_delta", "signature": signature}:
            block["signature"] = signature
        case {"type": "input_json_delta", "partial_json": part}:
            inputs.append(part)


def _set_input(block: JsonObject, text: str, stop_reason: str) -> None:
    # An answer that was cut off may end within a call; clients read what there is of it, too.
    was_cut = stop_reason != "tool_use"
    given = _read_input(text, partial=was_cut)
    if given is None:
        raise DecodeFailed(
            f"the model called {block['name']} with an input that is no JSON object",
            hint="ask again, or serve a model that has a token for calls",
        )
    block["input"] = given


def _read_input(text: str, *, partial: bool) -> dict[str, Any] | None:
    try:
        value = from_json(text or "{}", allow_inf_nan=False, allow_partial=partial)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
