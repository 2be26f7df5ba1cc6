"""Prompts of a wanted length in tokens, none of which a cache has seen. Knows no tokenizer.

How many tokens a word makes is learned from two probes, whose token counts the server tells.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

CountTokens: TypeAlias = Callable[[str], Awaitable[int]]

WORDS = [
    "river", "stone", "paper", "light", "green", "house", "morning", "letter", "garden", "window",
    "bridge", "silver", "table", "music", "winter", "ocean", "candle", "forest", "mirror",
    "basket", "copper", "harbour", "island", "kitchen", "ladder", "meadow", "needle", "orange",
    "pencil", "quiet", "rabbit", "saddle", "thunder", "umbrella", "valley", "whistle", "yellow",
    "anchor", "bottle", "castle",
]  # fmt: skip
PROBE_WORDS = (40, 240)


@dataclass(frozen=True, slots=True)
class PromptMaker:
    """Makes prompts.

    Args:
        tokens_per_word: Tokens that one more word makes.
        n_fixed: Tokens that a prompt has beside its words.
        seed: Different seeds share no prompt.
    """

    tokens_per_word: float
    n_fixed: float
    seed: int

    @classmethod
    async def calibrated(cls, count_tokens: CountTokens, *, seed: int) -> PromptMaker:
        """Learn from a server how many tokens words make."""
        few, many = PROBE_WORDS
        n_few = await count_tokens(_words(f"{seed} few", few))
        n_many = await count_tokens(_words(f"{seed} many", many))
        slope = max((n_many - n_few) / (many - few), 0.1)
        return cls(slope, n_few - slope * few, seed)

    def prompt(self, n_tokens: int, *, salt: str, prefix: str = "") -> str:
        """A prompt of about so many tokens whose words depend on the salt, from the first on."""
        n_words = max(1, round((n_tokens - self.n_fixed) / self.tokens_per_word))
        text = _words(f"{self.seed} {salt}", n_words)
        return f"{prefix} {text}" if prefix else text


def _words(salt: str, n: int) -> str:
    rng = random.Random(salt)  # noqa: S311
    return " ".join([f"{rng.getrandbits(20):05x}", *rng.choices(WORDS, k=n - 1)])
