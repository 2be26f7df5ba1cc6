"""An answer while it grows, and as it is told to programs. Pure: no terminal, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from qwenkit.chat.events import (
    ChatDone,
    ChatEvent,
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

Ending: TypeAlias = Literal["stop", "length", "tool_calls", "interrupted"]


@dataclass(slots=True)
class CallSoFar:
    """A tool call whose arguments may still grow."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """What a model has said so far.

    Args:
        reasoning: The thinking block's text.
        text: The answer's text.
        calls: Tool calls, in order.
        ending: Why it ended; `interrupted` until it has.
        usage: Token counts, once it has ended.
        timings: Seconds, once it has ended.
        id: What it can be rated by; empty where nobody keeps it.
    """

    reasoning: str = ""
    text: str = ""
    calls: list[CallSoFar] = field(default_factory=list)
    ending: Ending = "interrupted"
    usage: Usage | None = None
    timings: Timings | None = None
    id: str = ""

    @property
    def complete(self) -> bool:
        """Whether the model ended it, and not the reader."""
        return self.ending != "interrupted"

    def add(self, event: ChatEvent) -> None:
        """Take in the next event."""
        match event:
            case ChoiceDelta(deltas=deltas):
                for delta in deltas:
                    self._add_delta(delta)
            case ChoiceDone(finish=finish):
                self.ending = finish.value
            case ChatStarted(id=id_):
                self.id = id_
            case ChatDone(usage=usage, timings=timings):
                self.usage, self.timings = usage, timings

    def _add_delta(self, delta: Delta) -> None:
        match delta:
            case ReasoningDelta(text):
                self.reasoning += text
            case TextDelta(text):
                self.text += text
            case ToolCallStarted(_, id_, name):
                self.calls.append(CallSoFar(id_, name))
            case ToolCallDelta(_, arguments):
                self.calls[-1].arguments += arguments

    @property
    def tokens_per_s(self) -> float | None:
        """How fast tokens came after the first; None when there is nothing to measure."""
        if self.usage is None or self.timings is None:
            return None
        n_after_first = self.usage.n_completion - 1
        if n_after_first < 1 or self.timings.decode_s <= 0:
            return None
        return n_after_first / self.timings.decode_s

    @property
    def first_token_s(self) -> float | None:
        """Seconds until the first token."""
        return None if self.timings is None else self.timings.queue_s + self.timings.prefill_s

    def statistics(self) -> str:
        """One line of figures for people; empty while there are none."""
        parts = []
        if self.usage is not None and self.usage.n_completion:
            cached = f" ({self.usage.n_cached} cached)" if self.usage.n_cached else ""
            parts.append(f"{self.usage.n_prompt}{cached} + {self.usage.n_completion} tokens")
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s:.1f} tokens/s")
        if self.first_token_s is not None:
            parts.append(f"first after {self.first_token_s:.2f} s")
        if self.ending == "length":
            parts.append("cut at the token limit")
        return " · ".join(parts)

    def as_json(self, model: str) -> dict[str, Any]:
        """The whole answer as plain values."""
        return {
            "model": model,
            "answer": self.text,
            "reasoning": self.reasoning or None,
            "tool_calls": [
                {"id": call.id, "name": call.name, "arguments": call.arguments}
                for call in self.calls
            ],
            "finish_reason": self.ending,
            "usage": self._usage_as_json(),
            "tokens_per_s": self.tokens_per_s,
            "first_token_s": self.first_token_s,
        }

    def _usage_as_json(self) -> dict[str, int] | None:
        if self.usage is None:
            return None
        return {
            "prompt_tokens": self.usage.n_prompt,
            "cached_tokens": self.usage.n_cached,
            "completion_tokens": self.usage.n_completion,
            "reasoning_tokens": self.usage.n_reasoning,
        }


def delta_as_json(delta: Delta) -> dict[str, Any]:
    """One piece of an answer as a plain value."""
    match delta:
        case ReasoningDelta(text):
            return {"reasoning": text}
        case TextDelta(text):
            return {"text": text}
        case ToolCallStarted(index, id_, name):
            return {"tool_call": {"index": index, "id": id_, "name": name}}
        case ToolCallDelta(index, arguments):
            return {"tool_call": {"index": index, "arguments": arguments}}
