"""Where the agent's answers come from: a model in this process, or any OpenAI-compatible server.

Both tell an answer in the same events, so reasoning is kept whoever answers. Knows no LangChain.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from qwenkit.chat.completion import ChatModel, ChatOptions, NamedTool, OnPrepared, stream_chat
from qwenkit.chat.events import ChatEvent
from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import UnknownModel

Choice = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One model call.

    Args:
        messages: The conversation, in OpenAI's format.
        tools: Functions that may be called, in OpenAI's format.
        tool_choice: Which of them may or must be called.
        model: Who is to answer; None is whoever the source takes by default.
        thinking: Whether to think; None leaves it to the model.
        thinking_budget: Most thinking tokens.
        sampling: Fields of `SamplingParams`.
        max_tokens: Most tokens of the answer.
        stop: Strings that end it.
        parallel_tool_calls: Whether it may hold several calls.
        id: What the answer's message is called; empty where nobody has named it.
        store: False asks another server not to keep it.
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Choice = "auto"
    model: str | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    parallel_tool_calls: bool = True
    id: str = ""
    store: bool = True


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers; the first event of an answer."""

    model: str


AnswerEvent = Answering | ChatEvent


class Answers(Protocol):
    """Something that answers questions."""

    def stream(self, question: Question) -> AsyncGenerator[AnswerEvent, None]:
        """The answer as it is written; closing the generator cancels it.

        Raises:
            QwenkitError: It can't be answered.
        """


class LocalAnswers:
    """A model of this process.

    Args:
        model: Answers; what a question calls it makes no difference unless it is another name.
    """

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    async def stream(self, question: Question) -> AsyncGenerator[AnswerEvent, None]:
        """The answer as it is written; closing the generator cancels it.

        Raises:
            UnknownModel: The question asks for another model.
        """
        if question.model not in (None, self._model.name):
            raise UnknownModel(
                f"no model {question.model!r}; there is {self._model.name}", param="model"
            )
        async with aclosing(answer(self._model, question)) as events:
            async for event in events:
                yield event


class RemoteAnswers:
    """An OpenAI-compatible server.

    Args:
        server: Its address and key.
        model: Answers where a question names nobody; None takes the first of the server's.
    """

    def __init__(self, server: RemoteServer, model: str | None = None) -> None:
        self._server = server
        self._model = model

    async def stream(self, question: Question) -> AsyncGenerator[AnswerEvent, None]:
        """The answer as it is written; closing the generator cancels it.

        Raises:
            RemoteUnreachable: The server does not answer, or the connection broke.
            RemoteError: It answers with an error.
            UnknownModel: It has no model.
        """
        model = question.model or await self._default()
        body = request_body(question, model=model)
        yield Answering(model)
        async with aclosing(self._server.stream_chat(body)) as events:
            async for event in events:
                yield event

    async def _default(self) -> str:
        """The model to ask; the server's first one is asked for anew, since it may be replaced."""
        if self._model is not None:
            return self._model
        served = await self._server.models()
        if not served:
            raise UnknownModel(f"`{self._server.url}` has no model", param="model")
        return served[0]


async def answer(
    model: ChatModel,
    question: Question,
    *,
    thinking_budget: int | None = None,
    on_prepared: OnPrepared | None = None,
) -> AsyncGenerator[AnswerEvent, None]:
    """Let a model of this process answer.

    Args:
        thinking_budget: Where the question names none.
        on_prepared: Told what the engine gets.
    """
    budget = question.thinking_budget
    options = ChatOptions(
        enable_thinking=question.thinking,
        thinking_budget=thinking_budget if budget is None else budget,
        sampling=question.sampling,
        max_tokens=question.max_tokens,
        stop=question.stop,
        tool_choice=question.tool_choice,
        parallel_tool_calls=question.parallel_tool_calls,
    )
    yield Answering(model.name)
    asked = stream_chat(model, question.messages, question.tools, options, on_prepared=on_prepared)
    async with aclosing(asked) as events:
        async for event in events:
            yield event


def request_body(question: Question, *, model: str) -> dict[str, Any]:
    """The question as a request to `/v1/chat/completions`; what it leaves open is left out."""
    body: dict[str, Any] = {"model": model, "messages": list(question.messages)}
    body |= question.sampling
    if question.tools:
        body["tools"] = list(question.tools)
        body["tool_choice"] = _spelled(question.tool_choice)
        if not question.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if question.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": question.thinking}
    if question.thinking_budget is not None:
        body["thinking_budget"] = question.thinking_budget
    if question.max_tokens is not None:
        body["max_tokens"] = question.max_tokens
    if question.stop:
        body["stop"] = list(question.stop)
    if not question.store:
        body["store"] = False
    return body


def _spelled(choice: Choice) -> str | dict[str, Any]:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice
