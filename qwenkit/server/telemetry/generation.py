"""Spans of what the model computes: chats, continued texts, embeddings. Knows their events.

Source: OpenTelemetry's semantic conventions for GenAI clients. The model runs in this process, so
the spans are internal ones.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager

from qwenkit.chat.completion import ChatModel, PreparedChat
from qwenkit.chat.events import ChatDone, ChatEvent, ChatStarted, ChoiceDelta, ChoiceDone
from qwenkit.engine.request import (
    Event,
    Finished,
    GenerationRequest,
    PromptReady,
    RequestDone,
    SamplingParams,
    Token,
)
from qwenkit.server.telemetry.spans import Span, Value, current_span, entered, error_type

PROVIDER = "qwenkit"


class ChatSpan:
    """The span of a chat's answer; a `ChatWatch`.

    Args:
        model: Who answers.
    """

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._span: Span | None = None
        self._began = 0.0
        self._started = False
        self._done = False
        self._finishes: list[str] = []

    def on_begin(self) -> None:
        """See `ChatWatch`."""
        parent = current_span()
        self._span = None if parent is None else _begin(parent, "chat", self._model)
        self._began = time.perf_counter()

    def on_prepared(self, chat: PreparedChat) -> None:
        """See `ChatWatch`."""
        if self._span is not None:
            answers_json = chat.options.response_format is not None
            self._span.note(_asked(chat.request))
            self._span.note({"gen_ai.output.type": "json" if answers_json else "text"})

    def on_event(self, event: ChatEvent) -> None:
        """See `ChatWatch`."""
        if self._span is None:
            return
        match event:
            case ChoiceDelta() if not self._started:
                self._started = True
                self._span.note(_first_after(self._began))
            case ChatStarted(n_prompt, n_cached):
                self._span.note(_prompt(n_prompt, n_cached))
            case ChoiceDone(_, finish):
                self._finishes.append(finish.value)
            case ChatDone(usage, timings):
                self._done = True
                self._span.note(
                    {
                        "gen_ai.usage.output_tokens": usage.n_completion,
                        "gen_ai.usage.reasoning.output_tokens": usage.n_reasoning,
                        "gen_ai.response.finish_reasons": self._finishes,
                        **_timings(timings.queue_s, timings.prefill_s, timings.decode_s),
                    }
                )

    def on_end(self, error: BaseException | None) -> None:
        """See `ChatWatch`."""
        if self._span is None:
            return
        if error is not None and not self._done:
            self._span.fail(error_type(error))
        self._span.end()


async def traced_texts(
    events: AsyncGenerator[tuple[int, Event]],
    model: ChatModel,
    requests: Sequence[GenerationRequest],
) -> AsyncGenerator[tuple[int, Event]]:
    """The events of continued texts, inside of a span where something is traced."""
    parent = current_span()
    if parent is None:
        async with aclosing(events):
            async for each in events:
                yield each
        return
    span = _begin(parent, "text_completion", model)
    span.note(_asked(requests[0]))
    texts = _Texts(span)
    try:
        async with aclosing(events):
            async for text, event in events:
                texts.follow(event)
                yield text, event
    except BaseException as exc:
        if texts.n_done < len(requests):
            span.fail(error_type(exc))
        raise
    finally:
        texts.note()
        span.end()


@contextmanager
def embedding_span(model: ChatModel, *, n_tokens: int, n_dimensions: int) -> Iterator[None]:
    """Does what is in the context inside of a span of embeddings, where something is traced."""
    parent = current_span()
    if parent is None:
        yield
        return
    with entered(_begin(parent, "embeddings", model)) as span:
        span.note(
            {
                "gen_ai.usage.input_tokens": n_tokens,
                "gen_ai.embeddings.dimension.count": n_dimensions,
            }
        )
        yield


class _Texts:
    """Sums up the events of several texts."""

    def __init__(self, span: Span) -> None:
        self.n_done = 0
        self._span = span
        self._began = time.perf_counter()
        self._started = False
        self._n_prompt = self._n_cached = self._n_generated = 0
        self._finishes: list[str] = []

    def follow(self, event: Event) -> None:
        match event:
            case PromptReady(n_prompt, n_cached):
                self._n_prompt += n_prompt
                self._n_cached += n_cached
            case Token() if not self._started:
                self._started = True
                self._span.note(_first_after(self._began))
            case Finished(_, reason, _, n_tokens):
                self._n_generated += n_tokens
                self._finishes.append(reason.value)
            case RequestDone():
                self.n_done += 1

    def note(self) -> None:
        self._span.note(
            {
                **_prompt(self._n_prompt, self._n_cached),
                "gen_ai.usage.output_tokens": self._n_generated,
                "gen_ai.response.finish_reasons": self._finishes,
            }
        )


def _begin(parent: Span, operation: str, model: ChatModel) -> Span:
    named: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model.name,
        "gen_ai.response.model": model.name,
        "qwenkit.fingerprint": model.fingerprint,
    }
    return parent.begin(f"{operation} {model.name}", named)


def _asked(request: GenerationRequest) -> dict[str, Value]:
    sampling: SamplingParams = request.sampling
    return {
        "gen_ai.request.choice.count": request.n if request.n != 1 else None,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
        "gen_ai.request.presence_penalty": sampling.presence_penalty,
    }


def _prompt(n_prompt: int, n_cached: int) -> dict[str, Value]:
    return {
        "gen_ai.usage.input_tokens": n_prompt,
        "gen_ai.usage.cache_read.input_tokens": n_cached,
    }


def _first_after(began: float) -> dict[str, Value]:
    return {"gen_ai.response.time_to_first_chunk": time.perf_counter() - began}


def _timings(queue_s: float, prefill_s: float, decode_s: float) -> dict[str, Value]:
    return {
        "qwenkit.queue_s": queue_s,
        "qwenkit.prefill_s": prefill_s,
        "qwenkit.decode_s": decode_s,
    }
