"""`/v1/completions`: raw text continued. Knows the engine; no messages and no template.

Sampling starts from Qwen's advice for answers without thinking; what the body names wins.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from qwenkit.backends.base import Tokenizer
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.constraint import JsonSchema
from qwenkit.chat.presets import DIRECT
from qwenkit.engine import grammar
from qwenkit.engine.request import Event, GenerationRequest, Grammar, SamplingParams
from qwenkit.errors import InvalidRequest
from qwenkit.feedback.capture import TextCapture, form_json
from qwenkit.feedback.records import RequestOptions
from qwenkit.server.body import StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.openai import fill_in, generation
from qwenkit.server.openai.adapter_choice import chosen_model
from qwenkit.server.openai.answers import TextCompletion
from qwenkit.server.openai.asked import asked_by
from qwenkit.server.openai.completion_answer import CompletionAnswer, Echo
from qwenkit.server.openai.fan_in import fan_in
from qwenkit.server.openai.schema import CompletionBody
from qwenkit.server.openai.wire import Envelope, make_id
from qwenkit.server.recording import Recorder, recorded_texts
from qwenkit.server.serving import ServingNow
from qwenkit.server.sse import DONE, EventStream
from qwenkit.server.telemetry.generation import traced_texts
from qwenkit.server.tokenizing import check_ids, decode, encode

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, for this endpoint."""
MAX_CHOICES = 128
"""Of all prompts of a request together."""

router = APIRouter(tags=["completions"], route_class=StrictRoute)


@router.post(
    "/v1/completions",
    summary="Continue a text",
    response_model=None,
    responses={200: {"model": TextCompletion}},
)
async def completions(
    body: CompletionBody, request: Request, serving: ServingNow
) -> Response | dict[str, Any]:
    """OpenAI's older API: a raw prompt, or a prompt and a suffix with a hole between them."""
    model = chosen_model(serving, body)
    with_usage = generation.wants_usage(body)
    with generation.spelled_as(body):
        prompts = await _prompts(body, model.engine.tokenizer)
        requests = _requests(body, prompts, model)
    answer_id = make_id("cmpl")
    asked = asked_by(body, serving, answer_id=answer_id)
    echoes = _echoes(body, prompts, model)
    answer = CompletionAnswer(
        _envelope(model, answer_id), n=generation.n_choices(body), echoes=echoes
    )
    events = traced_texts(_events(body, model, requests), model, requests)
    recorder: Recorder = request.app.state.recorder
    if recorder.wants(body.store):
        texts = [*zip(_texts(body, prompts, model), requests, strict=True)]
        capture = TextCapture(asked, model, texts, _options(body))
        events = recorded_texts(events, capture, recorder)
    if body.stream:
        chunks = _chunks(events, answer, with_usage=with_usage)
        return EventStream(chunks, ping_s=serving.limits.sse_ping_s)
    return await unless_disconnected(request, _whole(events, answer))


def _envelope(model: ChatModel, answer_id: str) -> Envelope:
    return Envelope(
        answer_id,
        "text_completion",
        int(time.time()),
        model.name,
        model.fingerprint,
    )


async def _events(
    body: CompletionBody, model: ChatModel, requests: list[GenerationRequest]
) -> AsyncGenerator[tuple[int, Event]]:
    with generation.spelled_as(body):
        async with aclosing(fan_in([model.engine.stream(each) for each in requests])) as events:
            async for event in events:
                yield event


async def _whole(
    events: AsyncGenerator[tuple[int, Event]], answer: CompletionAnswer
) -> dict[str, Any]:
    async with aclosing(events):
        async for prompt, event in events:
            answer.feed(prompt, event)
    return answer.whole()


async def _chunks(
    events: AsyncGenerator[tuple[int, Event]], answer: CompletionAnswer, *, with_usage: bool
) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for prompt, event in events:
            for index in answer.feed(prompt, event):
                yield answer.chunk(index, with_usage=with_usage)
    if with_usage:
        yield answer.usage_chunk()
    yield DONE


def _requests(
    body: CompletionBody, prompts: list[list[int]], model: ChatModel
) -> list[GenerationRequest]:
    tokenizer = model.engine.tokenizer
    n = generation.n_choices(body)
    if body.best_of is not None and body.best_of != n:
        raise InvalidRequest("best_of other than n is not supported", param="best_of")
    wanted = generation.max_tokens(body)
    template = GenerationRequest(
        prompt=(0,),
        max_tokens=DEFAULT_MAX_TOKENS if wanted is None else wanted,
        sampling=_sampling(body, tokenizer),
        n=n,
        stop=generation.stops(body),
        ignore_eos=bool(body.ignore_eos),
        logprobs=body.logprobs,
        prompt_logprobs=bool(body.echo) and body.logprobs is not None,
        grammar=_grammar(body),
        adapter=model.adapter,
    )
    gap_stops = fill_in.stop_tokens(tokenizer)
    return [
        replace(
            template,
            prompt=tuple(prompt),
            stop_tokens=gap_stops if fill_in.has_gap(tokenizer, prompt) else frozenset(),
        )
        for prompt in prompts
    ]


def _texts(body: CompletionBody, prompts: list[list[int]], model: ChatModel) -> list[str]:
    """What was continued, as text: as it came, or what its tokens stand for."""
    given = _as_list(body.prompt)
    as_it_came = body.suffix is None
    return [
        each if isinstance(each, str) and as_it_came else decode(model.engine.tokenizer, tokens)
        for each, tokens in zip(given, prompts, strict=True)
    ]


def _options(body: CompletionBody) -> RequestOptions:
    return RequestOptions(
        response_format=form_json(generation.named_form(body)),
        max_tokens=generation.max_tokens(body),
        stop=generation.stops(body),
    )


def _grammar(body: CompletionBody) -> Grammar | None:
    form = generation.named_form(body)
    return grammar.json_schema(form.schema) if isinstance(form, JsonSchema) else form


def _sampling(body: CompletionBody, tokenizer: Tokenizer) -> SamplingParams:
    return replace(DIRECT, **generation.named_sampling(body, n_vocab=tokenizer.n_vocab))


async def _prompts(body: CompletionBody, tokenizer: Tokenizer) -> list[list[int]]:
    given = _as_list(body.prompt)
    n_choices = len(given) * generation.n_choices(body)
    if n_choices > MAX_CHOICES:
        raise InvalidRequest(
            f"{n_choices} choices in one request; at most {MAX_CHOICES}", param="prompt"
        )
    if body.suffix is not None:
        return [await _fill_in(each, body.suffix, tokenizer) for each in given]
    return [await _raw(each, tokenizer) for each in given]


def _as_list(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequest("the prompt is empty", param="prompt")
    if isinstance(prompt[0], int):
        return [prompt]
    return prompt  # type: ignore[return-value]


async def _raw(prompt: str | list[int], tokenizer: Tokenizer) -> list[int]:
    if isinstance(prompt, str):
        return await encode(tokenizer, prompt, special=True)
    check_ids(tokenizer, prompt, param="prompt")
    return prompt


async def _fill_in(prompt: str | list[int], suffix: str, tokenizer: Tokenizer) -> list[int]:
    if not isinstance(prompt, str):
        raise InvalidRequest("suffix needs a prompt that is text", param="suffix")
    gap = await fill_in.gap(tokenizer, prompt, suffix)
    return fill_in.prompt(tokenizer, gap, param="suffix")


def _echoes(body: CompletionBody, prompts: list[list[int]], model: ChatModel) -> list[Echo]:
    if not body.echo:
        return [Echo() for _ in prompts]
    tokenizer = model.engine.tokenizer
    return [Echo(decode(tokenizer, each), decode(tokenizer, each[:1])) for each in prompts]
