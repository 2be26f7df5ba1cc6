"""How rows become samples: the choices a person makes. Saved beside the adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qwenkit.errors import InvalidSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Choices about training data.

    Args:
        max_length: Most tokens of a sample.
        thinking: `keep` learns the reasoning that rows hold; `strip` takes it out first, and learns
            what is left as answers without reasoning.
        empty_thinking: Who writes the empty thinking block before an answer without reasoning.
            `learned`: the model, which so learns to answer at once even when it may think; the ids
            are also those of serving with thinking off. `given`: the prompt, as in serving with
            thinking off, so that nothing is learned of answers where it may think. Behind
            `/no_think` it is always learned, since serving leaves it to the model then.
        turns: Whether every answer of a conversation is learned, or the last one only.
        strings: `chat` takes `prompt` and an answer that are strings for a user's message and the
            assistant's; `raw` for the beginning and the end of a text, without any template.
        parse_special: Whether control tokens spelled in raw text are those tokens. None refuses
            such rows, since both readings are common and one is wrong.
        overlong: What happens to a row with more tokens: it is a bad row, it is left out, or its
            end is cut off. Raw text is always cut into pieces instead.
        skip_bad: Pass over bad rows and count them, instead of stopping at them.
    """

    max_length: int = 2048
    thinking: Literal["keep", "strip"] = "keep"
    empty_thinking: Literal["learned", "given"] = "learned"
    turns: Literal["all", "last"] = "all"
    strings: Literal["chat", "raw"] = "chat"
    parse_special: bool | None = None
    overlong: Literal["error", "drop", "truncate"] = "error"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise InvalidSettings(f"a max_length of {self.max_length} leaves nothing to learn")
