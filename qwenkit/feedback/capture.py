"""An answer's events become its records. Knows chats and records; no sink, no clock but the wall's.

    capture = ChatCapture(asked, model)
    stream_chat(…, on_prepared=capture.begin) ─▶ every event ─▶ capture.follow
    capture.records()                            one `Interaction` a choice

Following costs a list's append a token. All else is `records()`'s, which any thread may call when
the answer has ended, or was cut off: what there is of it then is recorded as cancelled. The model
may be gone by then, so a capture keeps nothing of it but names and numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

from qwenkit.chat.completion import ChatModel, ChatOptions, PreparedChat
from qwenkit.chat.constraint import JsonSchema, NamedTool, ResponseFormat, ToolChoice
from qwenkit.chat.events import ChatDone, ChatEvent, ChatStarted, ChoiceDelta, ChoiceDone, Delta
from qwenkit.chat.messages import Message, Tool, ToolCall
from qwenkit.chat.result import Collected
from qwenkit.engine.request import (
    Event,
    Finished,
    GenerationRequest,
    Grammar,
    PromptReady,
    RequestDone,
    SamplingParams,
    Token,
)
from qwenkit.feedback.records import (
    AdapterUsed,
    AnswerText,
    Call,
    Durations,
    FinishReason,
    Interaction,
    InteractionSource,
    RequestOptions,
    TokenCounts,
    choice_id,
    hash_prompt,
    now,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose answer it is.

    Args:
        id: What the client knows the answer by.
        source: Where it was asked for.
        model: The served model's name, without its adapter's.
        request_id: The HTTP request's id.
        thread_id: The conversation that it belongs to.
        parent_id: The answer that it regenerates.
        user: Who asked, as the request said.
        created_at: When, as records have it.
        began: The same by the clock that durations are measured with.
    """

    id: str
    source: InteractionSource
    model: str
    request_id: str | None = None
    thread_id: str | None = None
    parent_id: str | None = None
    user: str | None = None
    created_at: str = field(default_factory=now)
    began: float = field(default_factory=time.perf_counter)


class ChatCapture:
    """Takes down one answer to a conversation.

    Args:
        asked: Whose it is; may be set until `records` is called.
        model: Who answers.
    """

    def __init__(self, asked: Asked, model: ChatModel) -> None:
        self.asked = asked
        self._answerer = _answerer(model)
        self._given: _Given | None = None
        self._progress = _Progress()
        self._deltas: list[list[tuple[Delta, ...]]] = []

    def begin(self, chat: PreparedChat) -> None:
        """Take note of what the engine gets."""
        sampling = chat.request.sampling
        self._given = _Given(chat.prompt.text, chat.messages, chat.offered, chat.options, sampling)
        self._deltas = [[] for _ in range(chat.request.n)]

    def follow(self, event: ChatEvent) -> None:
        """Take note of an event."""
        match event:
            case ChoiceDelta(choice, deltas):
                self._deltas[choice].append(deltas)
            case ChoiceDone(choice, finish, n_completion, n_reasoning):
                self._progress.finish(choice, finish.value, n_completion, n_reasoning)
            case ChatStarted(n_prompt, n_cached):
                self._progress.start(n_prompt, n_cached)
            case ChatDone(_, timings):
                self._progress.end(timings.queue_s, timings.prefill_s, timings.decode_s)

    def records(self) -> list[Interaction]:
        """The choices' records; none where the prompt was never computed."""
        given, progress = self._given, self._progress
        if given is None or not progress.started:
            return []
        facts = {
            **_facts(self.asked),
            **self._answerer,
            "prompt_hash": hash_prompt(given.prompt),
            "messages": tuple(message_json(each) for each in given.messages),
            "tools": tuple(dict(each.definition) for each in given.tools),
            "options": _options(given.options),
            "sampling": _sampling(given.sampling),
            "timings": progress.durations(self.asked.began),
        }
        return [
            Interaction(
                id=choice_id(self.asked.id, index),
                answer=answer_text(deltas),
                finish_reason=progress.reason(index),
                usage=progress.usage(index, n_seen=len(deltas)),
                **facts,
            )
            for index, deltas in enumerate(self._deltas)
        ]


class TextCapture:
    """Takes down the continuations of raw texts.

    Args:
        asked: Whose they are.
        model: Who writes them.
        texts: What is continued, and how the engine gets it.
        options: What was asked for beside them.
    """

    def __init__(
        self,
        asked: Asked,
        model: ChatModel,
        texts: Sequence[tuple[str, GenerationRequest]],
        options: RequestOptions,
    ) -> None:
        self._asked = asked
        self._answerer = {**_answerer(model), "template_hash": ""}
        self._texts = [(text, request.sampling, request.n) for text, request in texts]
        self._options = options
        self._progress = [_Progress() for _ in texts]
        self._pieces: list[list[list[str]]] = [[[] for _ in range(n)] for *_, n in self._texts]

    def follow(self, text: int, event: Event) -> None:
        """Take note of an event of one of the texts."""
        progress = self._progress[text]
        match event:
            case Token(choice, _, piece):
                self._pieces[text][choice].append(piece)
            case Finished(choice, reason, piece, n_tokens, _, n_thinking):
                self._pieces[text][choice].append(piece)
                progress.finish(choice, reason.value, n_tokens, n_thinking)
            case PromptReady(n_prompt, n_cached):
                progress.start(n_prompt, n_cached)
            case RequestDone(queue_s, prefill_s, decode_s):
                progress.end(queue_s, prefill_s, decode_s)

    def records(self) -> list[Interaction]:
        """The records of every choice of every text whose beginning was computed."""
        return [
            each
            for index, progress in enumerate(self._progress)
            if progress.started
            for each in self._records_of(index, progress)
        ]

    def _records_of(self, index: int, progress: _Progress) -> list[Interaction]:
        text, sampling, n = self._texts[index]
        facts = {
            **_facts(self._asked),
            **self._answerer,
            "prompt_hash": hash_prompt(text),
            "prompt": text,
            "options": self._options,
            "sampling": _sampling(sampling),
            "timings": progress.durations(self._asked.began),
        }
        return [
            Interaction(
                id=choice_id(self._asked.id, index * n + choice),
                answer=AnswerText(content="".join(pieces)),
                finish_reason=progress.reason(choice),
                usage=progress.usage(choice, n_seen=len(pieces)),
                **facts,
            )
            for choice, pieces in enumerate(self._pieces[index])
        ]


async def following(
    events: AsyncGenerator[ChatEvent], capture: ChatCapture
) -> AsyncGenerator[ChatEvent]:
    """A chat's events, taken down as they pass."""
    async with aclosing(events):
        async for event in events:
            capture.follow(event)
            yield event


@dataclass(frozen=True, slots=True)
class _Given:
    """What of a request is recorded."""

    prompt: str
    messages: Sequence[Message]
    tools: Sequence[Tool]
    options: ChatOptions
    sampling: SamplingParams


class _Progress:
    """How far a request is."""

    def __init__(self) -> None:
        self.started = False
        self._n_prompt = self._n_cached = 0
        self._started_at = 0.0
        self._done: dict[int, tuple[FinishReason, int, int]] = {}
        self._timings: tuple[float, float, float] | None = None
        self._ended_at: float | None = None

    def start(self, n_prompt: int, n_cached: int) -> None:
        self.started = True
        self._started_at = time.perf_counter()
        self._n_prompt, self._n_cached = n_prompt, n_cached

    def finish(self, choice: int, reason: FinishReason, n_tokens: int, n_reasoning: int) -> None:
        self._done[choice] = (reason, n_tokens, n_reasoning)

    def end(self, queue_s: float, prefill_s: float, decode_s: float) -> None:
        self._ended_at = time.perf_counter()
        self._timings = (queue_s, prefill_s, decode_s)

    def reason(self, choice: int) -> FinishReason:
        return self._done[choice][0] if choice in self._done else "cancelled"

    def usage(self, choice: int, *, n_seen: int) -> TokenCounts:
        # Of a choice that was cut off only the tokens that said something are known.
        _, n_tokens, n_reasoning = self._done.get(choice, ("cancelled", n_seen, 0))
        return TokenCounts(
            prompt=self._n_prompt,
            cached=self._n_cached,
            completion=n_tokens,
            reasoning=n_reasoning,
        )

    def durations(self, began: float) -> Durations:
        ended_at = self._ended_at or time.perf_counter()
        queue_s, prefill_s, decode_s = self._timings or (
            0.0,
            self._started_at - began,
            ended_at - self._started_at,
        )
        return Durations(
            queue_s=round(queue_s, 6),
            prefill_s=round(prefill_s, 6),
            decode_s=round(decode_s, 6),
            total_s=round(ended_at - began, 6),
        )


def message_json(message: Message) -> dict[str, Any]:
    """A message in OpenAI's form; read again, it is the same message."""
    value = message.as_template_value()
    if message.tool_calls:
        value["tool_calls"] = [_call_json(call) for call in message.tool_calls]
    return value


def form_json(form: ResponseFormat) -> dict[str, Any] | None:
    """What an answer had to be, as a request spells it; a grammar in Lark's own dialect."""
    match form:
        case None:
            return None
        case JsonSchema(schema, strict):
            return {"type": "json_schema", "json_schema": {"schema": schema, "strict": strict}}
        case Grammar(lark):
            return {"type": "grammar", "lark": lark}
    return {"type": "json_object"}


def answer_text(deltas: Sequence[tuple[Delta, ...]]) -> AnswerText:
    """What the pieces of an answer come to."""
    collected = Collected()
    for each in deltas:
        collected.add(each, None)
    return AnswerText(
        content=collected.text,
        reasoning_content=collected.reasoning or None,
        tool_calls=tuple(
            Call(id=call.id, name=call.name, arguments=call.arguments)
            for call in collected.tool_calls
        ),
    )


def _facts(asked: Asked) -> dict[str, Any]:
    return {
        "created_at": asked.created_at,
        "source": asked.source,
        "request_id": asked.request_id,
        "thread_id": asked.thread_id,
        "parent_id": asked.parent_id,
        "user": asked.user,
        "model": asked.model,
    }


def _answerer(model: ChatModel) -> dict[str, Any]:
    return {
        "fingerprint": model.engine.facts.fingerprint,
        "adapter": _adapter(model),
        "template_hash": model.template.hash,
    }


def _adapter(model: ChatModel) -> AdapterUsed | None:
    if model.adapter is None:
        return None
    used = model.adapter
    return AdapterUsed(name=model.name, version=used.adapter.version, scale=used.scale)


def _call_json(call: ToolCall) -> dict[str, Any]:
    given = call.arguments
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": text}}


def _options(options: ChatOptions) -> RequestOptions:
    kwargs = dict(options.template_kwargs)
    by_template = kwargs.pop("enable_thinking", None)
    if options.continue_final_message:
        kwargs["continue_final_message"] = True
    enabled = by_template if options.enable_thinking is None else options.enable_thinking
    return RequestOptions(
        enable_thinking=enabled,
        thinking_budget=options.thinking_budget,
        tool_choice=_choice(options.tool_choice),
        response_format=form_json(options.response_format),
        template_kwargs=kwargs or None,
        max_tokens=options.max_tokens,
        stop=options.stop,
    )


def _choice(choice: ToolChoice) -> str | dict[str, Any]:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _sampling(params: SamplingParams) -> Mapping[str, Any]:
    numbers = asdict(params)
    numbers["logit_bias"] = {str(token): bias for token, bias in params.logit_bias}
    return numbers
