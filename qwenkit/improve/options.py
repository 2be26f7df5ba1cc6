"""The choices of a round that are not the training's own. Saved beside the adapter it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwenkit.errors import InvalidSettings

MethodChoice: TypeAlias = Literal["auto", "dpo", "kto"]
Beginning: TypeAlias = Literal["current", "fresh"]
Thinking: TypeAlias = Literal["keep", "strip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveOptions:
    """The choices of a round.

    Args:
        method: `dpo` learns from pairs, `kto` from single answers; `auto` takes dpo where there
            are enough pairs, and kto where there are only enough single answers.
        begin: Train on from the `current` adapter, or a `fresh` one on the base.
        thinking: `keep` learns the reasoning before answers too, `strip` leaves it out.
        held_out: Share of the judged answers that is only measured on; threads stay whole. More,
            up to a half, where so few come to too little.
        min_pairs: Fewest pairs to learn from.
        min_labels: Fewest liked, and fewest disliked, answers to learn from.
        min_held_out: Fewest held-out pairs, or held-out answers of each kind.
        min_gain: By how much a measure has to rise before the new adapter is better.
        max_lost: By how much, as a share, answers to other prompts may become less like those that
            were liked there.
        max_cut_off: How many more of its answers, as a share, may not come to an end.
        max_new_tokens: Most tokens of an answer that is generated to compare, reasoning included.
        seed: Decides what is held out.
    """

    method: MethodChoice = "auto"
    begin: Beginning = "current"
    thinking: Thinking = "keep"
    held_out: float = 0.25
    min_pairs: int = 8
    min_labels: int = 8
    min_held_out: int = 4
    min_gain: float = 0.02
    max_lost: float = 0.05
    max_cut_off: float = 0.05
    max_new_tokens: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self, "held_out", 0 < self.held_out < 1, "a share between 0 and 1")
        for name in ("min_pairs", "min_labels", "min_held_out", "max_new_tokens"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("min_gain", "max_lost", "max_cut_off"):
            _require(self, name, 0 <= getattr(self, name) < 1, "a share from 0 up to 1")
        _require(self, "seed", 0 <= self.seed < math.inf, "0 or more")


def _require(options: object, name: str, is_right: bool, rule: str) -> None:
    if not is_right:
        raise InvalidSettings(f"{name} is {getattr(options, name)}, it should be {rule}")
