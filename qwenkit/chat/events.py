"""What an answer is made of while it streams. Knows neither tokens nor HTTP.

    ChatStarted ─▶ ChoiceDelta, ChoiceDelta, … ─▶ ChoiceDone, … ─▶ ChatDone

A `ChoiceDelta` holds what one token added: reasoning, text, or a part of a tool call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qwenkit.engine.request import Logprobs


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the thinking block, its tags not included."""

    text: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A tool call whose name is known; its arguments follow as deltas.

    Args:
        index: Position among the answer's tool calls, from 0.
        id: Unique id (`call_…`).
        name: The tool's name.
    """

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call's arguments: JSON text, as the model wrote it."""

    index: int
    arguments: str


Delta = ReasoningDelta | TextDelta | ToolCallStarted | ToolCallDelta


class ChatFinish(StrEnum):
    """Why an answer ended, as OpenAI spells it."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a request, summed over its choices.

    Args:
        n_prompt: Tokens in the prompt.
        n_cached: Of them, tokens whose state was reused.
        n_completion: Tokens generated.
        n_reasoning: Of them, tokens of thinking.
    """

    n_prompt: int
    n_cached: int
    n_completion: int
    n_reasoning: int

    @property
    def n_total(self) -> int:
        """Prompt and completion together."""
        return self.n_prompt + self.n_completion


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds a request spent waiting, on its prompt, and on its answer."""

    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class ChatStarted:
    """The prompt is computed.

    Args:
        n_prompt: Tokens in the prompt.
        n_cached: Of them, tokens whose state was reused.
        id: What the answer can be rated by; empty where nobody keeps it.
    """

    n_prompt: int
    n_cached: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class ChoiceDelta:
    """What a token added to a choice; `deltas` may be empty while something is held back.

    Args:
        choice: Index of the choice.
        deltas: In order.
        logprobs: Of the token, when asked for and when it is part of the answer's text.
    """

    choice: int
    deltas: tuple[Delta, ...]
    logprobs: Logprobs | None = None


@dataclass(frozen=True, slots=True)
class ChoiceDone:
    """A choice has ended.

    Args:
        choice: Index of the choice.
        finish: Why it ended.
        n_completion: Tokens generated; 0 where that is not known.
        n_reasoning: Of them, tokens of thinking.
        stop: The stop string that ended it, if one did.
    """

    choice: int
    finish: ChatFinish
    n_completion: int = 0
    n_reasoning: int = 0
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class ChatDone:
    """Every choice has ended; the last event."""

    usage: Usage
    timings: Timings


ChatEvent = ChatStarted | ChoiceDelta | ChoiceDone | ChatDone
