"""What the MCP server needs of whoever has the model. Knows no protocol and no engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from qwenkit.chat.messages import JsonValue

OnTokens: TypeAlias = Callable[[int, bool], Awaitable[None]]
"""Told now and then how many pieces have come, and whether the model still thinks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask the model.

    Args:
        prompt: The question.
        system: What the model is told first.
        thinking: Whether it thinks before it answers; None leaves it to the model.
        model: The model's name or an adapter's; None is the model itself.
        max_tokens: Most tokens of the answer, thinking included.
        temperature: 0 always takes the likeliest token.
    """

    prompt: str
    system: str = ""
    thinking: bool | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None

    def messages(self) -> list[dict[str, JsonValue]]:
        """The conversation in OpenAI's form."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [*first, {"role": "user", "content": self.prompt}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model said.

    Args:
        text: The answer.
        reasoning: What it thought before; empty where it did not.
        model: Who answered.
        finish: Why it ended, as OpenAI spells it.
        n_prompt: Tokens of the question.
        n_completion: Tokens of the answer, thinking included.
        id: What it can be rated by; empty where nobody keeps it.
    """

    text: str
    reasoning: str
    model: str
    finish: str
    n_prompt: int
    n_completion: int
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedModel:
    """A model that can be asked, or an adapter of it.

    Args:
        name: What it is asked under.
        kind: Whether it is the model itself.
        description: What it is, for people.
        version: An adapter's; empty for the model.
        n_ctx: Tokens of context; 0 where that is not known.
    """

    name: str
    kind: str
    description: str = ""
    version: str = ""
    n_ctx: int = 0


class Host(Protocol):
    """Whoever has the model."""

    async def ask(self, question: Question, on_tokens: OnTokens) -> Reply:
        """The model's answer; cancelling it frees the model.

        Raises:
            QwenkitError: The question can't be answered.
        """

    async def models(self) -> tuple[OfferedModel, ...]:
        """The model and its adapters.

        Raises:
            QwenkitError: That can't be said now.
        """

    async def load_adapter(self, name: str, path: Path, *, replace: bool) -> OfferedModel:
        """Load an adapter under a name.

        Raises:
            QwenkitError: It can't be loaded.
        """
