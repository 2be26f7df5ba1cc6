"""Whether answers moved towards what people preferred. Pure: texts in, numbers out.

A held-out prompt has answers that people preferred and answers that they rejected; the model never
learned from either. An answer that a model generates is judged by them, by its *likeness*:

    score = likeness to the preferred answers
          - the larger of its likeness to the rejected answers
            and the likeness of the rejected answers to the preferred ones

of several answers always the nearest. It **wins** where the score is above 0: it is nearer to what
was preferred than to what was rejected, and nearer to it than what was rejected is. The second half
keeps nonsense, which is like nothing at all, from winning by chance. The *win rate* is the share of
prompts that a model wins; a score of 0 counts half. It is known where prompts have both kinds.

*Head to head* compares two models on every prompt of which people rejected an answer: the one that
is more like the preferred ones wins, or, where there is only a rejected one, the one that is less
like it. Equal ones tie. Where answers were only liked there is nothing to win, and how much of them
is kept is measured by itself.

Likeness is `similarity`, which reads letters: where preferred and rejected answers differ in
substance and hardly in wording, all of this says little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from qwenkit.improve.similarity import similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPrompt:
    """A held-out prompt with the answers that people judged.

    Args:
        prompt: Its tokens, as serving has them.
        text: The same as text.
        liked: Answers that were preferred or liked.
        disliked: Answers that were rejected or disliked.
    """

    prompt: tuple[int, ...] = field(repr=False)
    text: str
    liked: tuple[str, ...]
    disliked: tuple[str, ...]

    @property
    def has_both(self) -> bool:
        """Whether an answer can win by itself."""
        return bool(self.liked and self.disliked)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadToHead:
    """Two models' answers to the same prompts.

    Args:
        n_prompts: Prompts.
        wins: Of which the new answer is the nearer one to what was preferred.
        losses: Of which the old one is.
        ties: The others.
        win_rate: Share of the prompts that the new one wins, ties counted half; None without any.
        p_value: How often chance alone would divide wins and losses so unevenly (two-sided sign
            test, ties left out).
    """

    n_prompts: int
    wins: int
    losses: int
    ties: int
    win_rate: float | None
    p_value: float


def score(answer: str, judged: JudgedPrompt) -> float:
    """How clearly an answer wins, from -1 to 1; only where there are answers of both kinds."""
    between = max((_nearest(other, judged.liked) for other in judged.disliked), default=0.0)
    return _nearest(answer, judged.liked) - max(_nearest(answer, judged.disliked), between)


def likeness(answer: str, judged: JudgedPrompt) -> float:
    """How like the preferred answers it is; less than 0 for like the rejected one, if alone."""
    if judged.liked:
        return _nearest(answer, judged.liked)
    return -_nearest(answer, judged.disliked)


def win_rate(scores: Sequence[float]) -> float | None:
    """Share of the prompts that are won; None without any."""
    points = [(value > 0) + 0.5 * (value == 0) for value in scores]
    return sum(points) / len(points) if points else None


def head_to_head(before: Sequence[float], after: Sequence[float]) -> HeadToHead:
    """Compare the likenesses of two models' answers, prompt by prompt."""
    wins = sum(new > old for old, new in zip(before, after, strict=True))
    losses = sum(new < old for old, new in zip(before, after, strict=True))
    n = len(before)
    return HeadToHead(
        n_prompts=n,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        win_rate=(wins + 0.5 * (n - wins - losses)) / n if n else None,
        p_value=sign_test(wins, losses),
    )


def sign_test(wins: int, losses: int) -> float:
    """Two-sided: how often a fair coin would fall at least so unevenly."""
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2**n))


def _nearest(answer: str, others: Sequence[str]) -> float:
    return max((similarity(answer, other) for other in others), default=0.0)
