"""`/infill`: a gap in a file, as llama-server's editors ask for it. Knows the engine; no messages.

llama.vim and llama.vscode send what stands before and after the cursor and pieces of other files.
What does not fit the context is left out, farthest from the cursor first. Nothing of it is
recorded: it is asked at every pause in typing, and nobody rates it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from qwenkit.chat.completion import ChatModel
from qwenkit.chat.presets import DIRECT
from qwenkit.engine.request import Event, GenerationRequest, SamplingParams
from qwenkit.server.body import StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.infill_answer import InfillAnswer
from qwenkit.server.line_limits import LineLimits
from qwenkit.server.openai import fill_in, generation
from qwenkit.server.openai.adapter_choice import chosen_model
from qwenkit.server.openai.schema import GenerationBody
from qwenkit.server.serving import ServingNow
from qwenkit.server.sse import EventStream

DEFAULT_MAX_TOKENS = 128
"""llama-server's is no limit; what fills a gap is short."""
MAX_EXTRA = 1024
MAX_FIELDS = 64

router = APIRouter(tags=["completions"], route_class=StrictRoute)


class ExtraFile(BaseModel):
    """A piece of another file."""

    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)

    text: str
    """What it says."""
    filename: str = "tmp"
    """What it is called."""


class InfillBody(GenerationBody):
    """The body of `/infill`."""

    input_prefix: str
    """What stands before the cursor's line."""
    input_suffix: str
    """What stands after the cursor."""
    input_extra: Annotated[list[ExtraFile], Field(max_length=MAX_EXTRA)] | None = None
    """Pieces of other files, the most important one last."""
    prompt: str | None = None
    """What stands on the cursor's line before it."""
    n_predict: int | None = None
    """Most tokens to write; 0 only computes the prompt, so that the next request finds it
    computed; -1 goes on until the model ends."""
    n_cmpl: int | None = None
    """Answers to write; several come as a list."""
    n_indent: Annotated[int, Field(ge=0)] | None = None
    """The answer ends before a line, other than its first, that begins with fewer blanks."""
    t_max_predict_ms: Annotated[int, Field(ge=-1)] | None = None
    """Milliseconds of writing after which the next line end is the answer's; 0 and less are no
    limit."""
    response_fields: Annotated[list[str], Field(max_length=MAX_FIELDS)] | None = None
    """What to answer with: names of fields, and `timings/prompt_n` and its like."""


@router.post("/infill", summary="Fill a gap in a text", response_model=None)
async def infill(
    body: InfillBody, request: Request, serving: ServingNow
) -> Response | dict[str, Any] | list[dict[str, Any]]:
    """llama-server's API of that name; `id_slot`, `cache_prompt` and `samplers` have no meaning."""
    model = chosen_model(serving, body)
    with generation.spelled_as(body):
        asked, truncated = await _asked(body, model)
    limits = [_limits(body) for _ in range(asked.n)]
    fields = body.response_fields or ()
    answer = InfillAnswer(model.name, limits, truncated=truncated, fields=fields)
    events = _events(body, model, asked)
    if body.stream:
        return EventStream(_chunks(events, answer), ping_s=serving.limits.sse_ping_s)
    return await unless_disconnected(request, _whole(events, answer))


async def _asked(body: InfillBody, model: ChatModel) -> tuple[GenerationRequest, bool]:
    tokenizer = model.engine.tokenizer
    n_predict = _n_predict(body)
    extra = [(each.filename, each.text) for each in body.input_extra or ()]
    before = body.input_prefix + (body.prompt or "")
    gap = await fill_in.gap(tokenizer, before, body.input_suffix, extra)
    gap, truncated = fill_in.fitted(gap, _room(model.engine.capabilities.n_ctx, n_predict))
    n = body.n_cmpl if body.n_cmpl is not None else generation.n_choices(body)
    asked = GenerationRequest(
        prompt=tuple(fill_in.prompt(tokenizer, gap, param="input_prefix")),
        max_tokens=n_predict,
        sampling=_sampling(body, n, n_vocab=tokenizer.n_vocab),
        n=n,
        stop=generation.stops(body),
        stop_tokens=fill_in.stop_tokens(tokenizer),
        ignore_eos=bool(body.ignore_eos),
        adapter=model.adapter,
    )
    return asked, truncated


def _n_predict(body: InfillBody) -> int | None:
    if body.n_predict == -1:
        return None
    wanted = generation.max_tokens(body)
    return DEFAULT_MAX_TOKENS if wanted is None else wanted


def _room(n_ctx: int, n_predict: int | None) -> int:
    """Tokens that the prompt may have, with room left for the answer."""
    return max(n_ctx // 2, n_ctx - (DEFAULT_MAX_TOKENS if n_predict is None else n_predict))


def _sampling(body: InfillBody, n: int, *, n_vocab: int) -> SamplingParams:
    """A single answer is the likeliest one, and the same each time; several have to differ."""
    preset = DIRECT if n > 1 else replace(DIRECT, temperature=0.0)
    return replace(preset, **generation.named_sampling(body, n_vocab=n_vocab))


def _limits(body: InfillBody) -> LineLimits:
    t_max_ms = body.t_max_predict_ms or 0
    return LineLimits(n_indent=body.n_indent or 0, max_s=t_max_ms / 1000 if t_max_ms > 0 else None)


async def _events(
    body: InfillBody, model: ChatModel, asked: GenerationRequest
) -> AsyncGenerator[Event]:
    with generation.spelled_as(body):
        async with aclosing(model.engine.stream(asked)) as events:
            async for event in events:
                yield event


async def _whole(
    events: AsyncGenerator[Event], answer: InfillAnswer
) -> dict[str, Any] | list[dict[str, Any]]:
    async with aclosing(events):
        async for event in events:
            answer.feed(event)
            if answer.cut_short:
                break
    return answer.whole()


async def _chunks(events: AsyncGenerator[Event], answer: InfillAnswer) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            index = answer.feed(event)
            if index is not None:
                yield answer.chunk(index)
            if answer.cut_short:
                break
    for index in range(answer.n):
        yield answer.last_chunk(index)
