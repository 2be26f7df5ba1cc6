"""`/v1/messages` and `/v1/messages/count_tokens`: schema → answer_events → Anthropic's events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response

from qwenkit.chat.completion import ChatModel, ChatOptions, prepare_chat
from qwenkit.errors import InvalidRequest
from qwenkit.feedback.capture import Asked
from qwenkit.mcp.client import McpConnections
from qwenkit.server.anthropic.answer import PING, MessageEvents, encode, make_id, whole_message
from qwenkit.server.anthropic.conversation import chat_messages
from qwenkit.server.anthropic.options import prompt_options, sampling, spelled_as
from qwenkit.server.anthropic.schema import (
    CountBody,
    CountOut,
    ErrorOut,
    JsonObject,
    MessageOut,
    MessagesBody,
)
from qwenkit.server.anthropic.tools import tool_entries, without_switched_off
from qwenkit.server.body import StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.openai.chat_events import answer_events
from qwenkit.server.openai.chat_record import ChatRecord
from qwenkit.server.openai.mcp_tools import WAKE_S, ChosenTools, choose_tools, named_servers
from qwenkit.server.recording import Recorder
from qwenkit.server.serving import Lease, ServingNow
from qwenkit.server.sse import EventStream
from qwenkit.server.tracing import request_id

_FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorOut, "description": "A field is wrong, or the prompt is too long"},
    401: {"model": ErrorOut, "description": "The key is wrong, or one is needed"},
    404: {"model": ErrorOut, "description": "No model or MCP server of that name"},
    413: {"model": ErrorOut, "description": "The body is too large"},
    415: {"model": ErrorOut, "description": "The body is not declared to be JSON"},
    503: {"model": ErrorOut, "description": "No model yet, or the queue is full: `Retry-After`"},
}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}

router = APIRouter(tags=["messages"], route_class=StrictRoute)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a body comes to."""

    model: ChatModel
    messages: list[JsonObject]
    chosen: ChosenTools
    options: ChatOptions


@router.post(
    "/v1/messages",
    summary="Answer a conversation, by Anthropic's API",
    response_model=None,
    responses={200: {"model": MessageOut, "content": _STREAM}, **_FAILURES},
)
async def create_message(
    body: MessagesBody, request: Request, serving: ServingNow
) -> Response | JsonObject:
    """Anthropic's Messages API, with Qwen3's thinking as `thinking` blocks.

    The headers `anthropic-version` and `anthropic-beta` may be sent and change nothing.
    """
    asked = await _read(body, request, serving)
    options = replace(
        asked.options,
        sampling=sampling(body),
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
    )
    message_id = make_id()
    thinking = body.thinking
    told = MessageEvents(
        message_id=message_id,
        model=asked.model.name,
        max_tokens=body.max_tokens,
        shows_thinking=thinking is None or thinking.display != "omitted",
    )
    events = _events(
        body, replace(asked, options=options), told, request, _whose(body, serving, message_id)
    )
    if not body.stream:
        return await unless_disconnected(request, _whole(events))
    return EventStream(_chunks(events), ping_s=serving.limits.sse_ping_s, ping=PING)


@router.post(
    "/v1/messages/count_tokens",
    summary="Count the tokens of a prompt, by Anthropic's API",
    response_model=CountOut,
    responses=_FAILURES,
)
async def count_tokens(body: CountBody, request: Request, serving: ServingNow) -> CountOut:
    """The tokens of the prompt that `/v1/messages` would make of the same body, exactly."""
    asked = await _read(body, request, serving)
    with spelled_as(body):
        prepared = await asyncio.to_thread(
            prepare_chat, asked.model, asked.messages, asked.chosen.functions, asked.options
        )
    return CountOut(input_tokens=len(prepared.request.prompt))


async def _read(body: CountBody, request: Request, serving: Lease) -> _Asked:
    connections: McpConnections = request.app.state.mcp
    model = serving.named(body.model)
    entries = tool_entries(body.tools)
    await connections.wake(named_servers(entries), within_s=WAKE_S)
    with spelled_as(body):
        chosen = without_switched_off(choose_tools(entries, connections), body.tools)
    _refuse_missing_servers(chosen)
    messages = chat_messages(body.messages, body.system)
    continues = messages[-1]["role"] == "assistant"
    options = prompt_options(body, continues=continues, limits=serving.limits)
    return _Asked(model, messages, chosen, options)


def _refuse_missing_servers(chosen: ChosenTools) -> None:
    for name, reason in chosen.unavailable:
        raise InvalidRequest(f"the MCP server {name!r} can't be used: {reason}", param="tools")


def _whose(body: MessagesBody, serving: Lease, message_id: str) -> Asked:
    metadata = body.metadata
    return Asked(
        id=message_id,
        source="api",
        model=serving.model.name,
        request_id=request_id(),
        thread_id=None if metadata is None else metadata.thread_id,
        parent_id=None if metadata is None else metadata.parent_id,
        user=None if metadata is None else metadata.user_id,
    )


async def _events(
    body: MessagesBody, asked: _Asked, told: MessageEvents, request: Request, whose: Asked
) -> AsyncGenerator[JsonObject]:
    recorder: Recorder = request.app.state.recorder
    record = ChatRecord(recorder, whose if recorder.wants(body.store) else None, asked.model)
    events = answer_events(
        asked.model, asked.messages, asked.options, asked.chosen, request.app.state.mcp, record
    )
    with spelled_as(body):
        async with aclosing(events):
            async for event in events:
                for each in told.follow(event):
                    yield each


async def _whole(events: AsyncGenerator[JsonObject]) -> JsonObject:
    async with aclosing(events):
        return await whole_message(events)


async def _chunks(events: AsyncGenerator[JsonObject]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            yield encode(event).encode()
