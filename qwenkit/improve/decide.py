"""Whether a new adapter takes the place of the current one. Pure: numbers in, a sentence out.

It does where no measure fell, one of them rose by `min_gain`, its answers still come to an end, and
answers that people liked as they were are still given.
The measures are how often the preferred answer is found the likelier one (of pairs), how far liked
answers are raised above disliked ones (of single answers), how many held-out prompts are won, and
the two models head to head. Equal is not better: the one that people know stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from qwenkit.improve.measure import Measures
from qwenkit.improve.options import ImproveOptions
from qwenkit.improve.win_rate import HeadToHead

SURE = 0.05
"""Up to this share of cases in which chance alone would do the same, nothing is said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether the new adapter is better.

    Args:
        is_better: It is.
        reasons: What speaks for it where it is, and against it where it is not.
        cautions: What else a person should know who goes by it.
    """

    is_better: bool
    reasons: tuple[str, ...]
    cautions: tuple[str, ...] = ()


def decide(
    before: Measures, after: Measures, heads: HeadToHead, options: ImproveOptions
) -> Decision:
    """Compare the new adapter with the current one, or with the base where there is none."""
    measures = list(_measures(before, after, heads))
    # Written so that a value that is not a number is worse.
    fell = [_sentence("fell", each) for each in measures if not each[2] >= each[1]]
    if after.margin is not None and not math.isfinite(after.margin):
        fell.append(f"the margin is {after.margin}")
    if after.cut_off > before.cut_off + options.max_cut_off:
        fell.append(f"answers without an end went from {before.cut_off:.0%} to {after.cut_off:.0%}")
    kept = before.kept or 0.0, after.kept or 0.0
    if not kept[1] >= kept[0] - options.max_lost:
        fell.append(_sentence("fell", ("likeness to answers that were liked as they were", *kept)))
    if fell:
        return Decision(is_better=False, reasons=tuple(fell))
    rose = [_sentence("rose", each) for each in measures if each[2] - each[1] >= options.min_gain]
    if not rose:
        return Decision(
            is_better=False, reasons=(f"no measure rose by {options.min_gain:.1%} or more",)
        )
    return Decision(is_better=True, reasons=tuple(rose), cautions=tuple(_doubts(heads)))


def _doubts(heads: HeadToHead) -> Iterator[str]:
    if heads.p_value > SURE:
        yield (
            "it may be chance: a coin falls as unevenly as the answers head to head in "
            f"{heads.p_value:.0%} of all cases; rate more to be sure"
        )


def _measures(
    before: Measures, after: Measures, heads: HeadToHead
) -> list[tuple[str, float, float]]:
    """Name, before and after; of those that are known. Head to head, even is a half."""
    known = [
        ("preference accuracy", before.accuracy, after.accuracy),
        ("separation of liked answers", before.separation, after.separation),
        ("win rate", before.win_rate, after.win_rate),
        ("win rate head to head", 0.5, heads.win_rate),
    ]
    return [(name, old, new) for name, old, new in known if old is not None and new is not None]


def _sentence(verb: str, measure: tuple[str, float, float]) -> str:
    name, old, new = measure
    return f"the {name} {verb} from {old:.1%} to {new:.1%}"
