"""Which of two answers people prefer. Knows ratings and numbers that stand for answers, no texts.

The rule, for the answers to one rendered prompt:

    of one rater     the newest judgement of each kind counts (thumb, scale, comparison of the same
                     two, edit). A scale of 4 or 5 is as a thumb up, 1 or 2 as a thumb down, 3 is
                     neither; where thumb and scale contradict each other the newer one counts, and
                     none of them if both came at once.
    of two answers   the first of these that anybody gave decides, and the others aren't looked at:
                     1. comparisons side by side, and edits (the edited text over the original);
                     2. raters who rated both: the higher scale, by `min_gap` points, or else a
                        thumb up against a thumb down;
                     3. nobody rated both: an answer with more thumbs up than down against one with
                        more down than up, each by `min_margin` raters.
    of several       an answer is preferred if at least `min_margin` more raters prefer it than the
    raters           other one, and no fewer than call it a tie; otherwise there is no preference.
    cycles           preferences that go round (a over b, b over c, c over a) are all dropped; one
                     of a lower kind that would close a circle with those of a higher kind goes, and
                     those of the higher kind stay.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, TypeAlias

from qwenkit.feedback.records import Comparison, Rating

Origin: TypeAlias = Literal["compared", "edited", "rated"]
"""Where a preference, a label or a reward comes from."""

Pair: TypeAlias = tuple[int, int]

MAX_RATED = 200
"""Answers to one prompt whose ratings are set against each other; comparisons have no limit."""

TIE = "a tie"
NO_MAJORITY = "no clear majority"
STRAY = "compared with an answer that is not here, or not to the same prompt"
SAME = "the same text twice"
CIRCLE = "preferences that go round in a circle"
TOO_MANY = f"beyond {MAX_RATED} rated answers to one prompt"

_LIKED, _DISLIKED = (4, 5), (1, 2)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one rater thinks of one answer.

    Args:
        thumb: The newest rating with a thumb.
        scale: The newest rating with a scale.
    """

    thumb: Rating | None = None
    scale: Rating | None = None

    @property
    def sign(self) -> int:
        """1 for liked, -1 for disliked, 0 for neither."""
        thumb, scale = _thumb_sign(self.thumb), _scale_sign(self.scale)
        if thumb * scale >= 0:
            return thumb or scale
        newer = self._newer()
        return 0 if newer is None else thumb if newer is self.thumb else scale

    @property
    def value(self) -> float | None:
        """From -1 to 1: the scale's place, or the thumb; None where they cancel each other."""
        if self.scale is None or self.scale.scale is None:
            return float(_thumb_sign(self.thumb)) if self.thumb else None
        point = (self.scale.scale - 3) / 2
        if _thumb_sign(self.thumb) * _scale_sign(self.scale) >= 0:
            return point
        newer = self._newer()
        return None if newer is None else float(self.sign) if newer is self.thumb else point

    @property
    def rating_ids(self) -> set[str]:
        """The ratings that say so."""
        return {rating.id for rating in (self.thumb, self.scale) if rating}

    def _newer(self) -> Rating | None:
        if self.thumb is None or self.scale is None or self.thumb.id == self.scale.id:
            return None
        return max(self.thumb, self.scale, key=age)


@dataclass(frozen=True, slots=True)
class Choice:
    """What one rater said of two answers at once.

    Args:
        winner: The better one; None for a tie.
        rating: That says so.
        edited: Whether the better one is the rater's own wording.
    """

    winner: int | None
    rating: Rating
    edited: bool = False


@dataclass(frozen=True, slots=True)
class Preference:
    """An answer that is preferred to another.

    Args:
        winner: The better one.
        loser: The other.
        origin: Of the judgements that decided.
        level: Which of the three kinds decided; 1 is the strongest.
        margin: Raters by which it is ahead.
        rating_ids: The ratings that were counted.
    """

    winner: int
    loser: int
    origin: Origin
    level: int
    margin: int
    rating_ids: tuple[str, ...]


@dataclass(slots=True)
class Votes:
    """What each rater thinks of the answers to one prompt.

    Args:
        opinions: By answer and rater.
        choices: By two answers, the smaller number first, and rater.
        left_out: Counts, by reason, what was said and is no vote.
    """

    opinions: dict[int, dict[str, Opinion]] = field(default_factory=dict)
    choices: dict[Pair, dict[str, Choice]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def judged(self) -> set[int]:
        """Answers of which anybody said anything."""
        return {*self.opinions, *(each for pair in self.choices for each in pair)}

    def support(self, answer: int) -> int:
        """Raters who like an answer less those who don't."""
        return sum(each.sign for each in self.opinions.get(answer, {}).values())


@dataclass(frozen=True, slots=True)
class Ranking:
    """What the votes on the answers to one prompt come to.

    Args:
        preferences: Without ties, contradictions and circles.
        pairs: All answers that were set against each other, two by two, and the preference between
            them, circles or not; None where it is a tie or not clear.
        left_out: Counts, by reason, what was said and comes to no preference.
    """

    preferences: tuple[Preference, ...]
    pairs: Mapping[Pair, Preference | None]
    left_out: Counter[str]


@dataclass(frozen=True, slots=True)
class _Rule:
    min_gap: int
    min_margin: int


@dataclass(slots=True)
class _Count:
    """Votes between two answers: the first's, the second's, and ties."""

    first: int = 0
    second: int = 0
    ties: int = 0
    edits: int = 0
    rating_ids: set[str] = field(default_factory=set)

    def add(self, lead: int, rating_ids: Iterable[str]) -> None:
        self.first += lead > 0
        self.second += lead < 0
        self.ties += lead == 0
        self.rating_ids.update(rating_ids)


def age(rating: Rating) -> tuple[str, str]:
    """Sorts ratings by their time, and those of one time always in the same way."""
    return rating.created_at, rating.id


def count_votes(
    rated: Iterable[tuple[int, Rating]],
    numbers: Mapping[str, int],
    edits: Iterable[tuple[int, int, Rating]] = (),
) -> Votes:
    """Gather what each rater thinks now.

    Args:
        rated: Answers by their numbers, and ratings of them, in any order.
        numbers: Of answers by their ids; a comparison with an answer that is not here is no vote.
        edits: The edited text, the original and the rating; both by their numbers.
    """
    votes = Votes()
    for answer, rating in sorted(rated, key=lambda each: age(each[1])):
        _add_opinion(votes, answer, rating)
        if rating.compared is not None:
            _add_comparison(votes, answer, rating, rating.compared, numbers)
    for edited, original, rating in sorted(edits, key=lambda each: age(each[2])):
        _choose(votes, edited, original, Choice(edited, rating, edited=True))
    return votes


def rank(votes: Votes, *, min_gap: int, min_margin: int) -> Ranking:
    """Which answers to one prompt are preferred to which, by the rule of this module.

    Args:
        votes: As `count_votes` gathers them.
        min_gap: Points of the scale by which one answer must be ahead for one rater.
        min_margin: Raters by which an answer must be ahead.
    """
    left_out = Counter(votes.left_out)
    kept: list[Preference] = []
    pairs: dict[Pair, Preference | None] = {}
    for level, count in enumerate((_chosen, _rated_by_one, _rated_by_others), start=1):
        counts = count(votes, _Rule(min_gap, min_margin), pairs.keys())
        found = {
            pair: _preference(pair, counts[pair], level, min_margin, left_out)
            for pair in sorted(counts)
        }
        clear = [each for each in found.values() if each is not None]
        kept += _without_circles(kept, clear, left_out)
        pairs |= found
    n_beyond = len(votes.opinions) - MAX_RATED
    if n_beyond > 0:
        left_out[TOO_MANY] += n_beyond
    return Ranking(tuple(kept), pairs, left_out)


def _add_opinion(votes: Votes, answer: int, rating: Rating) -> None:
    if rating.thumb is None and rating.scale is None:
        return
    raters = votes.opinions.setdefault(answer, {})
    before = raters.get(rating.rater, Opinion())
    raters[rating.rater] = Opinion(
        rating if rating.thumb is not None else before.thumb,
        rating if rating.scale is not None else before.scale,
    )


def _add_comparison(
    votes: Votes, answer: int, rating: Rating, said: Comparison, numbers: Mapping[str, int]
) -> None:
    other = numbers.get(said.other_id)
    if other is None:
        votes.left_out[STRAY] += 1
        return
    better = {"better": answer, "worse": other, "tie": None}[said.verdict]
    _choose(votes, answer, other, Choice(better, rating))


def _choose(votes: Votes, one: int, other: int, choice: Choice) -> None:
    if one == other:
        votes.left_out[SAME] += 1
        return
    raters = votes.choices.setdefault((min(one, other), max(one, other)), {})
    before = raters.get(choice.rating.rater)
    if before is None or age(before.rating) <= age(choice.rating):
        raters[choice.rating.rater] = choice


def _thumb_sign(rating: Rating | None) -> int:
    return 0 if rating is None else {"up": 1, "down": -1, None: 0}[rating.thumb]


def _scale_sign(rating: Rating | None) -> int:
    scale = None if rating is None else rating.scale
    return (scale in _LIKED) - (scale in _DISLIKED)


def _chosen(votes: Votes, _: _Rule, __: Collection[Pair]) -> dict[Pair, _Count]:
    counts: dict[Pair, _Count] = defaultdict(_Count)
    for pair, raters in votes.choices.items():
        for choice in raters.values():
            lead = 0 if choice.winner is None else 1 if choice.winner == pair[0] else -1
            counts[pair].add(lead, (choice.rating.id,))
            counts[pair].edits += choice.edited
    return counts


def _rated_by_one(votes: Votes, rule: _Rule, decided: Collection[Pair]) -> dict[Pair, _Count]:
    counts: dict[Pair, _Count] = defaultdict(_Count)
    for pair in combinations(_rated(votes), 2):
        first, second = (votes.opinions[each] for each in pair)
        for rater in () if pair in decided else first.keys() & second.keys():
            lead = _lead(first[rater], second[rater], rule.min_gap)
            if lead is not None:
                ids = first[rater].rating_ids | second[rater].rating_ids
                counts[pair].add(lead, ids)
    return counts


def _lead(first: Opinion, second: Opinion, min_gap: int) -> int | None:
    """Whom one rater rates higher: 1, -1, 0 for a tie; None where the ratings can't be compared."""
    one, other = (each.scale.scale if each.scale else None for each in (first, second))
    if one is not None and other is not None:
        return 0 if abs(one - other) < min_gap else 1 if one > other else -1
    if first.sign and second.sign:
        return (first.sign - second.sign) // 2
    return None


def _rated_by_others(votes: Votes, rule: _Rule, decided: Collection[Pair]) -> dict[Pair, _Count]:
    counts: dict[Pair, _Count] = defaultdict(_Count)
    liked = [each for each in _rated(votes) if votes.support(each) >= rule.min_margin]
    disliked = [each for each in _rated(votes) if votes.support(each) <= -rule.min_margin]
    for better in liked:
        for worse in disliked:
            pair = min(better, worse), max(better, worse)
            if pair not in decided:
                count = counts[pair]
                n = min(votes.support(better), -votes.support(worse))
                count.first, count.second = (n, 0) if better == pair[0] else (0, n)
                opinions = (*votes.opinions[better].values(), *votes.opinions[worse].values())
                count.rating_ids.update(*(each.rating_ids for each in opinions))
    return counts


def _rated(votes: Votes) -> list[int]:
    return sorted(votes.opinions)[:MAX_RATED]


def _preference(
    pair: Pair, count: _Count, level: int, min_margin: int, left_out: Counter[str]
) -> Preference | None:
    """What the majority prefers, if it is one."""
    winner, loser = pair if count.first >= count.second else pair[::-1]
    n_most, margin = max(count.first, count.second), abs(count.first - count.second)
    if margin < min_margin or n_most < count.ties:
        left_out[TIE if count.ties > n_most else NO_MAJORITY] += 1
        return None
    explicit: Origin = "edited" if count.edits == n_most else "compared"
    return Preference(
        winner=winner,
        loser=loser,
        origin=explicit if level == 1 else "rated",
        level=level,
        margin=margin,
        rating_ids=tuple(sorted(count.rating_ids)),
    )


def _without_circles(
    kept: Sequence[Preference], new: Sequence[Preference], left_out: Counter[str]
) -> list[Preference]:
    """Those of `new` that lie on no circle, alone or together with what is kept."""
    if len(kept) + len(new) < 3:  # two answers have one preference
        return list(new)
    circle = _circles([*kept, *new])
    straight = [each for each in new if circle[each.winner] != circle[each.loser]]
    if len(straight) < len(new):
        left_out[CIRCLE] += len(new) - len(straight)
    return straight


def _circles(edges: Sequence[Preference]) -> dict[int, int]:
    """A number for each answer: the same for those that can be reached from each other.

    S. Rao Kosaraju's way: in reverse order of leaving, collect what leads there.
    """
    better: dict[int, list[int]] = defaultdict(list)
    worse: dict[int, list[int]] = defaultdict(list)
    for edge in edges:
        worse[edge.winner].append(edge.loser)
        better[edge.loser].append(edge.winner)
    found: dict[int, int] = {}
    for start in reversed(_leaving_order([*worse], worse)):
        if start not in found:
            for each in _reach(start, better, found):
                found[each] = start
    return found


def _leaving_order(starts: Iterable[int], edges: Mapping[int, list[int]]) -> list[int]:
    order: list[int] = []
    seen: set[int] = set()
    for start in starts:
        stack = [(start, False)]
        while stack:
            node, leaves = stack.pop()
            if leaves:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += ((each, False) for each in edges.get(node, ()))
    return order


def _reach(start: int, edges: Mapping[int, list[int]], found: Mapping[int, int]) -> list[int]:
    reached, stack = {start}, [start]
    while stack:
        for each in edges.get(stack.pop(), ()):
            if each not in found and each not in reached:
                reached.add(each)
                stack.append(each)
    return list(reached)
