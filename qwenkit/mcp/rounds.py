"""An answer in rounds: the model calls tools, they run, it goes on. Knows no HTTP and no server.

    ask ─▶ events ─▶ calls of ours? ─ no ─▶ the end
     ▲                   │ yes
     └── their results ◀─┘

What comes out is one stream, as of one answer: it starts once, ends once, and its token counts are
the sum of all rounds. Calls of ours never show as tool calls, which a client would try to run; they
have events of their own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

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
from qwenkit.chat.messages import JsonValue
from qwenkit.mcp.client.results import ToolResult, failed
from qwenkit.mcp.client.tools import McpTool

MAX_ROUNDS = 16
GAP = "\n\n"
NO_MORE_CALLS = "not run: the request allows no more calls"


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool of ours begins to run.

    Args:
        index: Position among all calls of the answer, from 0.
        id: Unique id.
        tool: What is called.
        arguments: JSON text, as the model wrote it.
    """

    index: int
    id: str
    tool: McpTool
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A tool of ours has run.

    Args:
        started: Its beginning.
        result: What came of it.
        took_s: Seconds that it took; None where it was not run.
    """

    started: ToolStarted
    result: ToolResult
    took_s: float | None = field(default=None, compare=False)


RoundEvent: TypeAlias = ChatEvent | ToolStarted | ToolEnded
Call: TypeAlias = Callable[[str, Mapping[str, JsonValue]], Awaitable[ToolResult]]
"""Calls a tool by the name that the model knows it under."""


class Ask(Protocol):
    """Answers a conversation; closing the generator cancels the answer."""

    def __call__(
        self, messages: Sequence[Mapping[str, Any]], *, first: bool, last: bool, n_spent: int
    ) -> AsyncGenerator[ChatEvent]:
        """The answer's events.

        Args:
            messages: The conversation so far, in OpenAI's form.
            first: Whether nothing has been called yet.
            last: Whether nothing may be called any more.
            n_spent: Tokens that earlier rounds took.
        """


async def stream_rounds(
    ask: Ask,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[McpTool],
    call: Call,
    *,
    max_tokens: int | None = None,
    max_calls: int | None = None,
    max_rounds: int = MAX_ROUNDS,
) -> AsyncGenerator[RoundEvent]:
    """Answer a conversation with tools of ours; closing the generator ends what runs.

    Args:
        ask: Answers one round.
        messages: The conversation.
        tools: Ours; all others are the client's.
        call: Runs one of ours.
        max_tokens: Most tokens of all rounds together; `ask` keeps to what is left.
        max_calls: Calls that run; the model must then answer with what it has. None is no limit.
        max_rounds: Rounds of calls after which it must.
    """
    by_name = {tool.name: tool for tool in tools}
    conversation = list(messages)
    sum_, index, n_rounds = _Sum(), 0, 0
    while True:
        last = n_rounds >= max_rounds or (max_calls is not None and index >= max_calls)
        round_ = _Round(by_name, begins=n_rounds == 0, said=sum_.said)
        events = ask(conversation, first=n_rounds == 0, last=last, n_spent=sum_.usage.n_completion)
        async with aclosing(events):
            async for event in events:
                if (shown := round_.follow(event)) is not None:
                    yield shown
        sum_.add(round_)
        if not round_.calls:
            break
        if max_tokens is not None and sum_.usage.n_completion >= max_tokens:
            round_.finish = ChatFinish.LENGTH
            break
        started = [
            ToolStarted(index + i, each.id, each.tool, each.arguments)
            for i, each in enumerate(round_.calls)
        ]
        for each in started:
            yield each
        n_left = None if max_calls is None else max_calls - index
        running = [_run(call, each) for each in started[:n_left]]
        spare = [(failed(NO_MORE_CALLS), None)] * (len(started) - len(running))
        results = [*await asyncio.gather(*running), *spare]
        for each, (result, took_s) in zip(started, results, strict=True):
            yield ToolEnded(each, result, took_s)
        done = [(each, result) for each, (result, _) in zip(started, results, strict=True)]
        conversation += turn_messages(round_.text, round_.reasoning, done)
        index += len(started)
        n_rounds += 1
        if round_.theirs:  # the client's turn; what ours said is told to it
            break
    yield ChoiceDone(0, round_.finish, stop=round_.stop)
    yield ChatDone(sum_.usage, sum_.timings)


def turn_messages(
    text: str, reasoning: str, done: Sequence[tuple[ToolStarted, ToolResult]]
) -> list[dict[str, Any]]:
    """A round as messages in OpenAI's form: what the model said and called, and what came of it."""
    said: dict[str, Any] = {
        "role": "assistant",
        "content": text,
        "tool_calls": [
            {
                "id": each.id,
                "type": "function",
                "function": {"name": each.tool.name, "arguments": each.arguments},
            }
            for each, _ in done
        ],
    }
    if reasoning:
        said["reasoning_content"] = reasoning
    answers = [
        {"role": "tool", "tool_call_id": each.id, "name": each.tool.name, "content": result.text}
        for each, result in done
    ]
    return [said, *answers]


def read_arguments(text: str) -> dict[str, JsonValue] | None:
    """The arguments of a call; None where the model wrote no JSON object."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


async def _run(call: Call, started: ToolStarted) -> tuple[ToolResult, float | None]:
    """A call's result, and how long it took where it was run."""
    arguments = read_arguments(started.arguments)
    if arguments is None:
        return failed("the arguments are no JSON object"), None
    began = time.perf_counter()
    result = await call(started.tool.name, arguments)
    return result, time.perf_counter() - began


@dataclass(slots=True)
class _OurCall:
    id: str
    tool: McpTool
    arguments: str = ""


class _Round:
    """One round's events: passes on what the client may see, keeps what is ours."""

    def __init__(self, by_name: Mapping[str, McpTool], *, begins: bool, said: _Said) -> None:
        self.calls: list[_OurCall] = []
        self.finish = ChatFinish.STOP
        self.stop: str | None = None
        self.theirs: dict[int, int] = {}
        self.usage = Usage(0, 0, 0, 0)
        self.timings = Timings(0.0, 0.0, 0.0)
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._ours: dict[int, _OurCall] = {}
        self._by_name = by_name
        self._begins = begins
        self._said = said

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        return "".join(self._thoughts)

    def follow(self, event: ChatEvent) -> ChatEvent | None:
        match event:
            case ChatStarted():
                return event if self._begins else None
            case ChoiceDelta(choice, deltas, logprobs):
                shown = tuple(each for delta in deltas for each in self._shown(delta))
                return ChoiceDelta(choice, shown, logprobs)
            case ChoiceDone(_, finish, stop=stop):
                self.finish, self.stop = finish, stop
            case ChatDone(usage, timings):
                self.usage, self.timings = usage, timings
        return None

    def _shown(self, delta: Delta) -> list[Delta]:
        match delta:
            case TextDelta(text):
                self._texts.append(text)
                return [TextDelta(self._said.gap("text") + text)]
            case ReasoningDelta(text):
                self._thoughts.append(text)
                return [ReasoningDelta(self._said.gap("reasoning") + text)]
            case ToolCallStarted(index, call_id, name) if name in self._by_name:
                self._ours[index] = _OurCall(call_id, self._by_name[name])
                self.calls.append(self._ours[index])
                return []
            case ToolCallStarted(index, call_id, name):
                self.theirs[index] = len(self.theirs)
                return [ToolCallStarted(self.theirs[index], call_id, name)]
            case ToolCallDelta(index, arguments) if index in self._ours:
                self._ours[index].arguments += arguments
                return []
            case ToolCallDelta(index, arguments):
                return [ToolCallDelta(self.theirs[index], arguments)]


@dataclass(slots=True)
class _Said:
    """What earlier rounds have said, so that a later one begins a paragraph of its own."""

    earlier: set[str] = field(default_factory=set)
    now: set[str] = field(default_factory=set)

    def gap(self, kind: str) -> str:
        if kind in self.now:
            return ""
        self.now.add(kind)
        return GAP if kind in self.earlier else ""

    def end_round(self) -> None:
        self.earlier |= self.now
        self.now.clear()


class _Sum:
    """What all rounds took."""

    def __init__(self) -> None:
        self.usage = Usage(0, 0, 0, 0)
        self.timings = Timings(0.0, 0.0, 0.0)
        self.said = _Said()

    def add(self, round_: _Round) -> None:
        self.said.end_round()
        a, b = self.usage, round_.usage
        self.usage = Usage(
            a.n_prompt + b.n_prompt,
            a.n_cached + b.n_cached,
            a.n_completion + b.n_completion,
            a.n_reasoning + b.n_reasoning,
        )
        s, t = self.timings, round_.timings
        self.timings = Timings(
            s.queue_s + t.queue_s, s.prefill_s + t.prefill_s, s.decode_s + t.decode_s
        )
