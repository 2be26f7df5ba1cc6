"""One conversation that ends in the answer to be learned. Knows messages, no rendering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from qwenkit.chat.messages import Message, Role, Tool, ToolCall


class Mode(StrEnum):
    """How the last answer treats its thinking block."""

    THINK = "thinking"
    """The model opens the block and reasons."""
    SOFT_OFF = "/no_think"
    """The user wrote /no_think: the model opens the block and closes it, empty."""
    HARD_OFF = "thinking off"
    """The prompt already holds the empty block."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages, the last of them the assistant's.

    Args:
        messages: System, user, assistant and tool messages.
        mode: How the last answer treats its thinking block.
        tools: The tools on offer.
    """

    messages: tuple[Message, ...]
    mode: Mode
    tools: tuple[Tool, ...] = ()


def system(text: str) -> Message:
    """A system message."""
    return Message(Role.SYSTEM, text)


def user(text: str) -> Message:
    """A user message."""
    return Message(Role.USER, text)


def assistant(text: str, *, thought: str = "", calls: Sequence[ToolCall] = ()) -> Message:
    """An assistant's answer, its calls, or both."""
    return Message(Role.ASSISTANT, text, reasoning=thought, tool_calls=tuple(calls))


def tool_result(text: str) -> Message:
    """What a tool gave back."""
    return Message(Role.TOOL, text)
