"""A LangChain chat model over qwenkit's own stream of chat events. Knows no graph.

Reasoning stands in `additional_kwargs["reasoning_content"]`, from where `content_blocks` takes it;
the content is the answer's text alone. A token makes a chunk, pieces of tool calls included.
Closing the stream cancels the answer where it is computed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.utils import LC_ID_PREFIX
from pydantic import ConfigDict, Field

from qwenkit.agent.answers import AnswerEvent, Answering, Answers, Choice, Question
from qwenkit.agent.conversation import to_openai
from qwenkit.chat.completion import NamedTool
from qwenkit.chat.events import (
    ChatDone,
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
from qwenkit.errors import InvalidRequest


class QwenChat(BaseChatModel):  # type: ignore[misc]
    """A chat model that LangChain and LangGraph can use.

    Every field may also be given with a call (`model.bind(temperature=0)`), and then wins.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    answers: Any = Field(exclude=True)
    """Where answers come from (`qwenkit.agent.answers.Answers`)."""
    model: str | None = None
    """Who is to answer; None is whoever the source takes by default."""
    thinking: bool | None = None
    """Whether to think; None leaves it to the model."""
    thinking_budget: int | None = None
    """Most thinking tokens; None is no limit."""
    sampling: Mapping[str, Any] = Field(default_factory=dict)
    """Fields of `SamplingParams`; each wins over the model's preset."""
    max_tokens: int | None = None
    """Most tokens of an answer, thinking included."""

    _FIELDS: ClassVar[tuple[str, ...]] = (
        "model",
        "thinking",
        "thinking_budget",
        "sampling",
        "max_tokens",
    )

    @property
    def _llm_type(self) -> str:
        return "qwenkit"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._FIELDS}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools that it may call.

        Args:
            tools: In any form that LangChain knows.
            tool_choice: `auto`, `none`, `required` (also `any`, true), or a tool's name.
            kwargs: More for each call.
        """
        functions = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=functions, tool_choice=tool_choice, **kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        source: Answers = self.answers
        # As LangChain would name it: the source must know the name that clients will see.
        name = uuid.uuid4() if run_manager is None else run_manager.run_id
        question = self._question(messages, stop, kwargs, answer_id=f"{LC_ID_PREFIX}-{name}")
        async with aclosing(source.stream(question)) as events:
            async for chunk in _chunks(events):
                chunk.id = question.id
                yield ChatGenerationChunk(message=chunk)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        whole: AIMessageChunk | None = None
        async for chunk in self._astream(messages, stop, run_manager, **kwargs):
            piece = chunk.message
            assert isinstance(piece, AIMessageChunk)  # noqa: S101 - narrows what we made ourselves
            whole = piece if whole is None else whole + piece
        fields = (whole or AIMessageChunk(content="")).model_dump(
            exclude={"type", "tool_call_chunks", "chunk_position"}
        )
        return ChatResult(generations=[ChatGeneration(message=AIMessage(**fields))])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        return asyncio.run(self._agenerate(messages, stop, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        chunks = self._astream(messages, stop, **kwargs)
        with asyncio.Runner() as runner:
            try:
                while (chunk := runner.run(_next(chunks))) is not None:
                    yield chunk
            finally:
                runner.run(_close(chunks))

    def _question(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        given: Mapping[str, Any],
        *,
        answer_id: str = "",
    ) -> Question:
        chosen = {name: given.get(name) for name in self._FIELDS}
        values = {
            name: getattr(self, name) if value is None else value for name, value in chosen.items()
        }
        values["sampling"] = {**self.sampling, **(chosen["sampling"] or {})} | {
            name: given[name] for name in ("temperature", "top_p", "seed") if name in given
        }
        return Question(
            messages=to_openai(messages),
            tools=tuple(given.get("tools") or ()),
            tool_choice=_tool_choice(given.get("tool_choice")),
            stop=tuple(stop or ()),
            parallel_tool_calls=given.get("parallel_tool_calls") is not False,
            id=answer_id,
            **values,
        )


def _tool_choice(choice: Any) -> Choice:
    match choice:
        case None | False | "auto":
            return "auto"
        case True | "any" | "required":
            return "required"
        case "none":
            return "none"
        case str():
            return NamedTool(choice)
        case {"type": "function", "function": {"name": str(name)}}:
            return NamedTool(name)
    raise InvalidRequest("tool_choice is neither auto, none, required nor a tool's name")


async def _next(chunks: AsyncIterator[ChatGenerationChunk]) -> ChatGenerationChunk | None:
    return await anext(chunks, None)


async def _close(chunks: AsyncIterator[ChatGenerationChunk]) -> None:
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()


async def _chunks(
    events: AsyncGenerator[AnswerEvent, None],
) -> AsyncGenerator[AIMessageChunk, None]:
    answer = _Answer()
    async for event in events:
        if (chunk := answer.follow(event)) is not None:
            yield chunk


class _Answer:
    """Turns one answer's events into chunks, and times its thinking."""

    def __init__(self) -> None:
        self._model = ""
        self._finish: Literal["stop", "length", "tool_calls"] = "stop"
        self._started = time.perf_counter()
        self._thinking_s: float | None = None
        self._thinks = False

    def follow(self, event: AnswerEvent) -> AIMessageChunk | None:
        """The chunk that an event means, if it means one."""
        match event:
            case Answering(model):
                self._model = model
            case ChatStarted():
                self._started = time.perf_counter()
            case ChoiceDelta(deltas=deltas) if deltas:
                return self._delta(deltas)
            case ChoiceDone(finish=finish):
                self._finish = finish.value
            case ChatDone():
                return self._last(event)
        return None

    def _delta(self, deltas: Sequence[Delta]) -> AIMessageChunk:
        chunk = AIMessageChunk(content="")
        for delta in deltas:
            chunk = chunk + self._piece(delta)
        return chunk

    def _piece(self, delta: Delta) -> AIMessageChunk:
        if isinstance(delta, ReasoningDelta):
            self._thinks = True
            return AIMessageChunk(content="", additional_kwargs={"reasoning_content": delta.text})
        if self._thinks and self._thinking_s is None:
            self._thinking_s = time.perf_counter() - self._started
        match delta:
            case TextDelta(text):
                return AIMessageChunk(content=text)
            case ToolCallStarted(index, call_id, name):
                call_id = call_id or f"call_{uuid.uuid4().hex}"
                call = tool_call_chunk(name=name, args="", id=call_id, index=index)
            case ToolCallDelta(index, arguments):
                call = tool_call_chunk(args=arguments, index=index)
        return AIMessageChunk(content="", tool_call_chunks=[call])

    def _last(self, done: ChatDone) -> AIMessageChunk:
        timings: dict[str, float] = {
            "queue_s": round(done.timings.queue_s, 4),
            "prefill_s": round(done.timings.prefill_s, 4),
            "decode_s": round(done.timings.decode_s, 4),
        }
        if self._thinks:
            thinking_s = self._thinking_s or time.perf_counter() - self._started
            timings["thinking_s"] = round(thinking_s, 4)
        metadata: dict[str, Any] = {
            "finish_reason": self._finish,
            "model_name": self._model,
            "timings": timings,
        }
        return AIMessageChunk(
            content="",
            response_metadata=metadata,
            usage_metadata=_usage(done.usage),
            chunk_position="last",
        )


def _usage(usage: Usage) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=usage.n_prompt,
        output_tokens=usage.n_completion,
        total_tokens=usage.n_total,
        input_token_details=InputTokenDetails(cache_read=usage.n_cached),
        output_token_details=OutputTokenDetails(reasoning=usage.n_reasoning),
    )
