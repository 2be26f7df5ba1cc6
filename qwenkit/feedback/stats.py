"""What people thought: counts, days, agreement between raters, win rates by adapter. Pure counting.

agreement   of two raters who said something of the same: of one answer, liked or disliked (by
            thumb or scale); of the same two answers, which is better. It is counted on the day
            of the later judgement.
win rate    of answers to the same prompt by different adapters (or models, or none), set
            against each other two by two by the rule of `datasets/votes.py`, with edits left
            out and circles counted; ties and unclear pairs are half a win for both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qwenkit.feedback.datasets.votes import Opinion, Votes, count_votes, rank
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import PromptGroup, Query, RatedAnswer
from qwenkit.feedback.records import Interaction, Rating
from qwenkit.models.progress import ProgressFactory, silent

SCALE = (1, 2, 3, 4, 5)

_STEP = 1000


@dataclass(slots=True)
class Day:
    """What happened on one day, in UTC.

    Args:
        n_answers: Answers that were asked for.
        n_up: Thumbs up that were given.
        n_down: Thumbs down.
        n_compared: Comparisons.
        n_shared: Judgements of the same by two raters.
        n_agreed: Of those, the ones that agree.
    """

    n_answers: int = 0
    n_up: int = 0
    n_down: int = 0
    n_compared: int = 0
    n_shared: int = 0
    n_agreed: int = 0

    @property
    def agreement(self) -> float | None:
        """Share of shared judgements that agree; None without any."""
        return self.n_agreed / self.n_shared if self.n_shared else None


@dataclass(frozen=True, slots=True, order=True)
class Maker:
    """What made an answer: a model with an adapter; without one, name and version are empty."""

    model: str
    adapter: str = ""
    version: str = ""


@dataclass(slots=True)
class Standing:
    """How one maker's answers were judged.

    Args:
        n_answers: Its answers.
        n_up: Thumbs up.
        n_down: Thumbs down.
        n_scaled: Ratings on the scale.
        points: Their sum.
        wins: Answers of other makers to the same prompt that its own were preferred to.
        losses: Those that were preferred to its own.
        ties: Those of which neither is preferred.
    """

    n_answers: int = 0
    n_up: int = 0
    n_down: int = 0
    n_scaled: int = 0
    points: int = 0
    wins: int = 0
    losses: int = 0
    ties: int = 0

    @property
    def mean_scale(self) -> float | None:
        """Mean point on the scale; None without any."""
        return self.points / self.n_scaled if self.n_scaled else None

    @property
    def win_rate(self) -> float | None:
        """From 0 to 1, a tie half; None where nothing was compared."""
        n_met = self.wins + self.losses + self.ties
        return (self.wins + self.ties / 2) / n_met if n_met else None


@dataclass(slots=True)
class FeedbackStats:
    """All counts of a log, or of a part of it.

    Args:
        n_answers: Answers.
        n_rated: Those that were rated or compared.
        n_ratings: Ratings that count.
        n_up: Thumbs up.
        n_down: Thumbs down.
        n_compared: Comparisons.
        n_edited: Edits.
        scale: How often each point of the scale was given.
        days: By day, `2026-11-25`.
        adapters: By what made the answers.
        raters: Ratings of each.
    """

    n_answers: int = 0
    n_rated: int = 0
    n_ratings: int = 0
    n_up: int = 0
    n_down: int = 0
    n_compared: int = 0
    n_edited: int = 0
    scale: Counter[int] = field(default_factory=Counter)
    days: defaultdict[str, Day] = field(default_factory=lambda: defaultdict(Day))
    adapters: defaultdict[Maker, Standing] = field(default_factory=lambda: defaultdict(Standing))
    raters: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """The body of `GET /v1/feedback/stats`."""
        days = sorted(self.days.items())
        return {
            "n_answers": self.n_answers,
            "n_rated": self.n_rated,
            "n_ratings": self.n_ratings,
            "n_up": self.n_up,
            "n_down": self.n_down,
            "scale": {str(point): self.scale[point] for point in SCALE},
            "n_compared": self.n_compared,
            "n_edited": self.n_edited,
            "days": [_day_json(name, day) for name, day in days],
            "agreement": [_agreement_json(name, day) for name, day in days if day.n_shared],
            "adapters": [
                _maker_json(maker, self.adapters[maker]) for maker in sorted(self.adapters)
            ],
            "raters": [
                {"rater": rater, "n_ratings": n}
                for rater, n in sorted(self.raters.items(), key=lambda each: (-each[1], each[0]))
            ],
        }


def compute_stats(
    index: FeedbackIndex, query: Query, progress: ProgressFactory = silent
) -> FeedbackStats:
    """Count the answers that a query asks for, and what was said of them.

    With a rater in the query only that rater's ratings count. Win rates are against the answers of
    all models and adapters, whichever the query asks for.
    """
    stats = FeedbackStats(n_rated=index.count(replace(query, rated=True)))
    asked = replace(query, rater=None)
    met = replace(asked, model=None, adapter=None, rated=True)
    n_steps = index.count(asked) + index.count(met)
    with progress("counting answers", total=n_steps, unit="answers") as advance:
        for number, each in enumerate(index.answers(asked), start=1):
            _add_answer(stats, _by_rater(each, query.rater))
            if number % _STEP == 0:
                advance(_STEP)
        for group in index.prompt_groups(met):
            _add_group(stats, group, query)
            advance(len(group.answers))
    return stats


def _by_rater(rated: RatedAnswer, rater: str | None) -> RatedAnswer:
    if rater is None:
        return rated
    return replace(rated, ratings=tuple(each for each in rated.ratings if each.rater == rater))


def _add_answer(stats: FeedbackStats, rated: RatedAnswer) -> None:
    interaction = rated.interaction
    standing = stats.adapters[maker_of(interaction)]
    stats.n_answers += 1
    standing.n_answers += 1
    stats.days[_day(interaction.created_at)].n_answers += 1
    for rating in rated.ratings:
        _add_rating(stats, standing, rating)


def maker_of(interaction: Interaction) -> Maker:
    """What made an answer."""
    adapter = interaction.adapter
    if adapter is None:
        return Maker(interaction.model)
    return Maker(interaction.model, adapter.name, adapter.version)


def _add_rating(stats: FeedbackStats, standing: Standing, rating: Rating) -> None:
    day = stats.days[_day(rating.created_at)]
    for count in (stats, day, standing):
        count.n_up += rating.thumb == "up"
        count.n_down += rating.thumb == "down"
    if rating.scale is not None:
        stats.scale[rating.scale] += 1
        standing.n_scaled += 1
        standing.points += rating.scale
    stats.n_compared += rating.compared is not None
    day.n_compared += rating.compared is not None
    stats.n_edited += rating.edited is not None
    stats.n_ratings += 1
    stats.raters[rating.rater] += 1


def _add_group(stats: FeedbackStats, group: PromptGroup, query: Query) -> None:
    """Count agreement on the answers to one prompt, and which makers' are preferred."""
    rated = [_by_rater(each, query.rater) for each in group.answers]
    numbers = {each.interaction.id: number for number, each in enumerate(rated)}
    votes = count_votes(
        ((numbers[each.interaction.id], rating) for each in rated for rating in each.ratings),
        numbers,
    )
    makers = [maker_of(each.interaction) for each in rated]
    _add_agreement(stats, votes, [_is_asked(maker, query) for maker in makers])
    if len(set(makers)) > 1:
        _add_wins(stats, votes, makers, query)


def _is_asked(maker: Maker, query: Query) -> bool:
    return query.model in (None, maker.model) and query.adapter in (None, maker.adapter)


def _add_agreement(stats: FeedbackStats, votes: Votes, asked: Sequence[bool]) -> None:
    for answer, opinions in votes.opinions.items():
        if asked[answer]:
            said = [(_moment(each), each.sign) for each in opinions.values() if each.sign]
            _count_agreement(stats, said)
    for (one, other), choices in votes.choices.items():
        if asked[one] or asked[other]:
            _count_agreement(
                stats, [(each.rating.created_at, each.winner) for each in choices.values()]
            )


def _count_agreement(stats: FeedbackStats, said: Iterable[tuple[str, int | None]]) -> None:
    """Count each judgement with all before it."""
    before: Counter[int | None] = Counter()
    for moment, verdict in sorted(said, key=lambda each: each[0]):
        n_before = before.total()
        if n_before:
            day = stats.days[_day(moment)]
            day.n_shared += n_before
            day.n_agreed += before[verdict]
        before[verdict] += 1


def _moment(opinion: Opinion) -> str:
    """When somebody came to think so."""
    ratings = (opinion.thumb, opinion.scale)
    return max(each.created_at for each in ratings if each is not None)


def _add_wins(stats: FeedbackStats, votes: Votes, makers: Sequence[Maker], query: Query) -> None:
    for pair, preference in rank(votes, min_gap=1, min_margin=1).pairs.items():
        if makers[pair[0]] == makers[pair[1]]:
            continue
        for answer in pair:
            if _is_asked(makers[answer], query):
                standing = stats.adapters[makers[answer]]
                standing.ties += preference is None
                standing.wins += preference is not None and preference.winner == answer
                standing.losses += preference is not None and preference.loser == answer


def _day(moment: str) -> str:
    return moment[:10]


def _day_json(name: str, day: Day) -> dict[str, Any]:
    return {
        "day": name,
        "n_answers": day.n_answers,
        "n_up": day.n_up,
        "n_down": day.n_down,
        "n_compared": day.n_compared,
    }


def _agreement_json(name: str, day: Day) -> dict[str, Any]:
    return {
        "day": name,
        "n_shared": day.n_shared,
        "n_agreed": day.n_agreed,
        "agreement": day.agreement,
    }


def _maker_json(maker: Maker, standing: Standing) -> dict[str, Any]:
    return {
        "model": maker.model,
        "adapter": maker.adapter or None,
        "version": maker.version or None,
        "n_answers": standing.n_answers,
        "n_up": standing.n_up,
        "n_down": standing.n_down,
        "mean_scale": standing.mean_scale,
        "wins": standing.wins,
        "losses": standing.losses,
        "ties": standing.ties,
        "win_rate": standing.win_rate,
    }
