"""Qwen3's thinking: its tags, its switches, and the words that end it. Knows no prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from qwenkit.backends.base import Tokenizer
from qwenkit.chat.messages import Message, Role

ENDING = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the "
    "thinking directly now.\n</think>\n\n"
)
# A word of its own: `/think`, not `src/think/` and not `/thinking`.
_SOFT_SWITCH = re.compile(r"(?<![\w/])/(no_)?think(?![\w/])")


@dataclass(frozen=True, slots=True)
class ThinkingTokens:
    """Token ids around a thinking block.

    Args:
        open: `<think>`.
        close: `</think>`.
        ending: The sentence that ends a block by force, `close` included.
    """

    open: int
    close: int
    ending: tuple[int, ...]


def thinking_tokens(tokenizer: Tokenizer) -> ThinkingTokens | None:
    """Look the tags up in a vocabulary; None for a model that has none and so can't think."""
    opening, closing = tokenizer.token_id("<think>"), tokenizer.token_id("</think>")
    if opening is None or closing is None:
        return None
    return ThinkingTokens(opening, closing, tuple(tokenizer.encode(ENDING, special=True)))


def soft_switch(messages: Iterable[Message]) -> bool:
    """Whether the conversation lets the model think: the latest `/think` or `/no_think` wins.

    Only system and user messages count. The model obeys it by itself; the hard switch overrules it.
    """
    thinks = True
    for message in messages:
        if message.role in (Role.SYSTEM, Role.USER):
            for found in _SOFT_SWITCH.finditer(message.content):
                thinks = found[1] is None
    return thinks
