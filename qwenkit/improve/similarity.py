"""How alike two answers are on the surface: chrF, the F-score of their runs of characters.

Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015: runs of 1 to 6
characters, spaces aside, precision and recall averaged over the lengths. Her beta of 2 favours
recall, and with it long answers; here it is 1, so that neither side of a comparison is favoured.
Knows letters; nothing of what is true or well said.
"""

from __future__ import annotations

from collections import Counter

LONGEST = 6
"""Characters of the longest runs that are compared."""


def similarity(one: str, other: str) -> float:
    """From 0, nothing in common, to 1, the same; the order of the two says nothing."""
    a, b = ("".join(text.split()) for text in (one, other))
    if a == b:
        return 1.0
    lengths = range(1, min(LONGEST, max(len(a), len(b))) + 1)
    shared = [_shared(_runs(a, n), _runs(b, n)) for n in lengths]
    precision, recall = (sum(each) / len(shared) for each in zip(*shared, strict=True))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _shared(one: Counter[str], other: Counter[str]) -> tuple[float, float]:
    n = (one & other).total()
    return n / max(1, one.total()), n / max(1, other.total())


def _runs(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))
