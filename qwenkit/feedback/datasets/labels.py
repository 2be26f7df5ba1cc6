"""How good an answer is by itself: a label for KTO, a number for PPO. Knows votes, no texts.

label    liked if at least `min_margin` more raters like it than don't, disliked the other way
         round. Where nobody says either, preferences speak: liked if it is preferred to others
         and none is preferred to it, disliked the other way round.
reward   from -1 to 1: the mean of what each rater gives, a thumb as 1 or -1, a scale of 1 to 5
         in five even steps. Where nobody rated it, wins less losses, by all comparisons and
         edits that it is in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from qwenkit.feedback.datasets.votes import Choice, Origin, Preference, Votes

UNDECIDED = "neither liked nor disliked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer is worth.

    Args:
        answer: Its number.
        value: A reward, or 1 for liked and -1 for disliked.
        origin: Of the judgements that say so.
        rating_ids: Those judgements.
    """

    answer: int
    value: float
    origin: Origin
    rating_ids: tuple[str, ...]


def labels(
    votes: Votes, preferred: Sequence[Preference], *, min_margin: int, left_out: Counter[str]
) -> list[Verdict]:
    """Which answers are liked and which are not, by the rule of this module.

    Args:
        votes: What each rater thinks.
        preferred: The preferences that come of it.
        min_margin: Raters by which likes or dislikes must be ahead.
        left_out: Counts, by reason, judged answers that come to no label.
    """
    compared = _by_answer(preferred)
    found = []
    for answer in sorted(votes.judged):
        verdict = _label(votes, answer, compared.get(answer, ()), min_margin)
        if verdict is None:
            left_out[UNDECIDED] += 1
        else:
            found.append(verdict)
    return found


def rewards(votes: Votes, *, left_out: Counter[str]) -> list[Verdict]:
    """What each judged answer is worth, by the rule of this module."""
    chosen = _choices_by_answer(votes)
    found = []
    for answer in sorted(votes.judged):
        verdict = _rated(votes, answer) or _compared(answer, chosen.get(answer, ()))
        if verdict is None:
            left_out[UNDECIDED] += 1
        else:
            found.append(verdict)
    return found


def _label(
    votes: Votes, answer: int, compared: Sequence[Preference], min_margin: int
) -> Verdict | None:
    opinions = votes.opinions.get(answer, {})
    if any(each.sign for each in opinions.values()):
        support = votes.support(answer)
        if abs(support) < min_margin:
            return None
        ids = {each for opinion in opinions.values() for each in opinion.rating_ids}
        return Verdict(answer, 1.0 if support > 0 else -1.0, "rated", tuple(sorted(ids)))
    signs = {1.0 if each.winner == answer else -1.0 for each in compared}
    if len(signs) != 1:
        return None
    edited = all(each.origin == "edited" for each in compared)
    ids = {each for preference in compared for each in preference.rating_ids}
    return Verdict(answer, signs.pop(), "edited" if edited else "compared", tuple(sorted(ids)))


def _rated(votes: Votes, answer: int) -> Verdict | None:
    opinions = [each for each in votes.opinions.get(answer, {}).values() if each.value is not None]
    if not opinions:
        return None
    ids = {each for opinion in opinions for each in opinion.rating_ids}
    values = sorted(each.value for each in opinions if each.value is not None)
    return Verdict(answer, fmean(values), "rated", tuple(sorted(ids)))


def _compared(answer: int, choices: Sequence[Choice]) -> Verdict | None:
    if not choices:
        return None
    n_wins = sum(each.winner == answer for each in choices)
    n_ties = sum(each.winner is None for each in choices)
    value = (2 * n_wins + n_ties - len(choices)) / len(choices)
    origin: Origin = "edited" if all(each.edited for each in choices) else "compared"
    return Verdict(answer, value, origin, tuple(sorted({each.rating.id for each in choices})))


def _by_answer(preferred: Iterable[Preference]) -> dict[int, list[Preference]]:
    found: dict[int, list[Preference]] = {}
    for each in preferred:
        for answer in (each.winner, each.loser):
            found.setdefault(answer, []).append(each)
    return found


def _choices_by_answer(votes: Votes) -> dict[int, list[Choice]]:
    found: dict[int, list[Choice]] = {}
    for pair, choice in _all_choices(votes):
        for answer in pair:
            found.setdefault(answer, []).append(choice)
    return found


def _all_choices(votes: Votes) -> Iterator[tuple[tuple[int, int], Choice]]:
    for pair, raters in sorted(votes.choices.items()):
        for _, choice in sorted(raters.items()):
            yield pair, choice
