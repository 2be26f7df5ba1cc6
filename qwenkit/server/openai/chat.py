"""`/v1/chat/completions`: schema → stream_chat → chunks or one answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response

from qwenkit.chat.completion import ChatModel, ChatOptions, collect, stream_chat
from qwenkit.chat.events import ChatEvent
from qwenkit.server.body import StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.openai import generation
from qwenkit.server.openai.adapter_choice import chosen_model
from qwenkit.server.openai.chat_answer import answer_json
from qwenkit.server.openai.chat_chunks import ChatChunks
from qwenkit.server.openai.conversation import chat_options
from qwenkit.server.openai.schema import ChatBody
from qwenkit.server.openai.wire import Envelope, make_id
from qwenkit.server.serving import ServingNow
from qwenkit.server.sse import DONE, EventStream

router = APIRouter(tags=["chat"], route_class=StrictRoute)


@router.post("/v1/chat/completions", summary="Answer a conversation", response_model=None)
async def chat_completions(
    body: ChatBody, request: Request, serving: ServingNow
) -> Response | dict[str, Any]:
    """OpenAI's chat API, with Qwen3's thinking as `reasoning_content`."""
    model = chosen_model(serving, body)
    n_vocab = model.engine.tokenizer.n_vocab
    options = chat_options(body, n_vocab=n_vocab, limits=serving.limits)
    with_usage = generation.wants_usage(body)
    events = _events(model, body, options)
    if not body.stream:
        return await unless_disconnected(request, _whole(events, model))
    chunks = ChatChunks(
        _envelope(model, "chat.completion.chunk"), n=options.n, with_usage=with_usage
    )
    return EventStream(_chunks(events, chunks), ping_s=serving.limits.sse_ping_s)


def _envelope(model: ChatModel, kind: str) -> Envelope:
    return Envelope(
        id=make_id("chatcmpl"),
        object=kind,
        created=int(time.time()),
        model=model.name,
        fingerprint=model.fingerprint,
    )


async def _events(
    model: ChatModel, body: ChatBody, options: ChatOptions
) -> AsyncGenerator[ChatEvent]:
    with generation.spelled_as(body):
        async with aclosing(stream_chat(model, body.messages, body.tools or (), options)) as events:
            async for event in events:
                yield event


async def _whole(events: AsyncGenerator[ChatEvent], model: ChatModel) -> dict[str, Any]:
    async with aclosing(events):
        return answer_json(_envelope(model, "chat.completion"), await collect(events))


async def _chunks(events: AsyncGenerator[ChatEvent], chunks: ChatChunks) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            if chunk := chunks.encode(event):
                yield chunk
    yield DONE
