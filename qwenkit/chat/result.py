"""A whole answer, summed up from its stream. Knows events only."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass

from qwenkit.chat.events import (
    ChatDone,
    ChatEvent,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    Delta,
    ReasoningDelta,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwenkit.engine.request import Logprobs


@dataclass(frozen=True, slots=True)
class CallResult:
    """A tool call; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """One whole answer.

    Args:
        reasoning: The thinking; empty when there was none.
        text: The answer's text.
        tool_calls: In order.
        finish: Why it ended.
        logprobs: Of the text's tokens, when asked for.
    """

    reasoning: str
    text: str
    tool_calls: tuple[CallResult, ...]
    finish: ChatFinish
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatResult:
    """All answers to a conversation, by choice."""

    choices: tuple[ChoiceResult, ...]
    usage: Usage
    timings: Timings


async def collect(events: AsyncIterable[ChatEvent]) -> ChatResult:
    """Put a stream together: the answer without streaming is the stream's sum."""
    choices: dict[int, Collected] = {}
    finishes: dict[int, ChatFinish] = {}
    done: ChatDone | None = None
    async for event in events:
        match event:
            case ChoiceDelta(choice, deltas, logprobs):
                choices.setdefault(choice, Collected()).add(deltas, logprobs)
            case ChoiceDone(choice, finish):
                finishes[choice] = finish
            case ChatDone():
                done = event
            case ChatStarted():
                pass
    if done is None:
        raise ValueError("the stream ended before its last event")
    results = (choices.get(i, Collected()).result(finishes[i]) for i in sorted(finishes))
    return ChatResult(tuple(results), done.usage, done.timings)


class Collected:
    """One choice's deltas, summed."""

    def __init__(self) -> None:
        self._reasoning: list[str] = []
        self._text: list[str] = []
        self._calls: list[tuple[ToolCallStarted, list[str]]] = []
        self._logprobs: list[Logprobs] = []

    @property
    def reasoning(self) -> str:
        """The thinking so far."""
        return "".join(self._reasoning)

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(self._text)

    @property
    def tool_calls(self) -> tuple[CallResult, ...]:
        """The calls so far; the last one may not be whole."""
        return tuple(CallResult(call.id, call.name, "".join(args)) for call, args in self._calls)

    def add(self, deltas: Sequence[Delta], logprobs: Logprobs | None) -> None:
        """Add what a token said."""
        if logprobs is not None:
            self._logprobs.append(logprobs)
        for delta in deltas:
            match delta:
                case ReasoningDelta(text):
                    self._reasoning.append(text)
                case TextDelta(text):
                    self._text.append(text)
                case ToolCallStarted():
                    self._calls.append((delta, []))
                case ToolCallDelta(index, arguments):
                    self._calls[index][1].append(arguments)

    def result(self, finish: ChatFinish) -> ChoiceResult:
        """The whole choice."""
        return ChoiceResult(
            reasoning=self.reasoning,
            text=self.text,
            tool_calls=self.tool_calls,
            finish=finish,
            logprobs=tuple(self._logprobs),
        )
