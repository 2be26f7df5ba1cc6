"""`/v1/chat/completions`: schema → answer_events → chunks or one answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response

from qwenkit.chat.completion import ChatModel, ChatOptions, collect
from qwenkit.chat.events import ChatEvent
from qwenkit.mcp.client import McpConnections
from qwenkit.mcp.rounds import RoundEvent, ToolEnded, ToolStarted
from qwenkit.server.body import StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.openai import generation
from qwenkit.server.openai.adapter_choice import chosen_model
from qwenkit.server.openai.answers import ChatCompletion
from qwenkit.server.openai.asked import asked_by
from qwenkit.server.openai.chat_answer import answer_json
from qwenkit.server.openai.chat_chunks import ChatChunks
from qwenkit.server.openai.chat_events import answer_events
from qwenkit.server.openai.chat_record import ChatRecord
from qwenkit.server.openai.conversation import chat_options
from qwenkit.server.openai.mcp_tools import (
    WAKE_S,
    ChosenTools,
    choose_tools,
    done_json,
    named_choice,
    named_servers,
    unavailable_json,
    with_earlier_calls,
)
from qwenkit.server.openai.schema import ChatBody
from qwenkit.server.openai.wire import Envelope, make_id
from qwenkit.server.recording import Recorder
from qwenkit.server.serving import ServingNow
from qwenkit.server.sse import DONE, EventStream

router = APIRouter(tags=["chat"], route_class=StrictRoute)


@router.post(
    "/v1/chat/completions",
    summary="Answer a conversation",
    response_model=None,
    responses={200: {"model": ChatCompletion}},
)
async def chat_completions(
    body: ChatBody, request: Request, serving: ServingNow
) -> Response | dict[str, Any]:
    """OpenAI's chat API, with Qwen3's thinking as `reasoning_content`."""
    connections: McpConnections = request.app.state.mcp
    model = chosen_model(serving, body)
    await connections.wake(named_servers(body.tools), within_s=WAKE_S)
    chosen = choose_tools(body.tools, connections)
    body.tool_choice = named_choice(body.tool_choice, chosen)
    n_vocab = model.engine.tokenizer.n_vocab
    options = chat_options(body, n_vocab=n_vocab, limits=serving.limits)
    with_usage = generation.wants_usage(body)
    if chosen.ours:
        generation.refuse_several(options.n)
    answer_id = make_id("chatcmpl")
    asked = asked_by(body, serving, answer_id=answer_id)
    recorder: Recorder = request.app.state.recorder
    record = ChatRecord(recorder, asked if recorder.wants(body.store) else None, model)
    events = _events(model, body, options, chosen, connections, record)
    if not body.stream:
        envelope = _envelope(model, answer_id, "chat.completion")
        return await unless_disconnected(request, _whole(events, envelope, chosen))
    envelope = _envelope(model, answer_id, "chat.completion.chunk")
    chunks = ChatChunks(envelope, n=options.n, with_usage=with_usage)
    return EventStream(_chunks(events, chunks, chosen), ping_s=serving.limits.sse_ping_s)


def _envelope(model: ChatModel, answer_id: str, kind: str) -> Envelope:
    return Envelope(
        id=answer_id,
        object=kind,
        created=int(time.time()),
        model=model.name,
        fingerprint=model.fingerprint,
    )


async def _events(
    model: ChatModel,
    body: ChatBody,
    options: ChatOptions,
    chosen: ChosenTools,
    connections: McpConnections,
    record: ChatRecord,
) -> AsyncGenerator[RoundEvent]:
    messages = with_earlier_calls(body.messages)
    events = answer_events(
        model,
        messages,
        options,
        chosen,
        connections,
        record,
        max_calls=body.max_tool_calls,
    )
    with generation.spelled_as(body):
        async with aclosing(events):
            async for event in events:
                yield event


async def _whole(
    events: AsyncGenerator[RoundEvent], envelope: Envelope, chosen: ChosenTools
) -> dict[str, Any]:
    calls: list[dict[str, Any]] = []
    async with aclosing(events):
        result = await collect(_without_calls(events, calls))
    answer = answer_json(envelope, result)
    if chosen.ours or chosen.unavailable:
        answer["choices"][0]["message"]["mcp_calls"] = calls
    if chosen.unavailable:
        answer["choices"][0]["message"]["mcp_unavailable"] = unavailable_json(chosen)
    return answer


async def _without_calls(
    events: AsyncGenerator[RoundEvent], calls: list[dict[str, Any]]
) -> AsyncGenerator[ChatEvent]:
    async for event in events:
        match event:
            case ToolStarted():
                pass
            case ToolEnded():
                calls.append(done_json(event))
            case _:
                yield event


async def _chunks(
    events: AsyncGenerator[RoundEvent], chunks: ChatChunks, chosen: ChosenTools
) -> AsyncGenerator[bytes]:
    n_sent = 0
    async with aclosing(events):
        async for event in events:
            if chunk := chunks.encode(event):
                yield chunk
                n_sent += 1
            if n_sent == 1 and chosen.unavailable:
                yield chunks.encode_unavailable(unavailable_json(chosen))
                n_sent += 1
    yield DONE
