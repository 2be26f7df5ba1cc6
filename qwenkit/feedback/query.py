"""What can be asked of the log, and what comes back. Pure values and one rule; no database.

The rule: of one rater, the newest rating of an answer counts, by kind of judgement (thumb, scale,
comparison with the same other answer, edit, comment); one that is retracted withdraws all that the
rater said of that answer before it. A comment goes with the last judgement of its rating.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from qwenkit.errors import InvalidRequest
from qwenkit.feedback.records import Interaction, Rating, Thumb, parse_moment

MAX_PAGE = 1000
MAX_GROUP = 1000
"""Most answers of a prompt that are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which answers; what is None does not matter.

    Args:
        thread_id: Of this conversation.
        model: From this model.
        adapter: With this adapter; empty is without any.
        rater: Rated by this person. The thumb and the scale are then this person's.
        thumb: With a rating of this thumb.
        min_scale: With a rating of at least this.
        max_scale: With a rating of at most this.
        since: Asked at or after this day or moment.
        until: Asked before it.
        text: With this in the last message or the answer, in upper or lower case.
        rated: With a rating that counts, or compared with another answer; False is without.
        limit: Most answers of a page.
        cursor: Where the page begins: the `next_cursor` of the one before.

    Raises:
        InvalidRequest: Something can't be asked; `param` names it.
    """

    thread_id: str | None = None
    model: str | None = None
    adapter: str | None = None
    rater: str | None = None
    thumb: Thumb | None = None
    min_scale: int | None = None
    max_scale: int | None = None
    since: str | None = None
    until: str | None = None
    text: str | None = None
    rated: bool | None = None
    limit: int = 50
    cursor: str | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, parse_moment(given, param=name))
        if not 1 <= self.limit <= MAX_PAGE:
            raise InvalidRequest(
                f"limit is {self.limit}; it must be 1 to {MAX_PAGE}", param="limit"
            )


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """An answer and the ratings of it that count, each without what no longer does."""

    interaction: Interaction
    ratings: tuple[Rating, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what was found.

    Args:
        items: Newest first; may be fewer than asked for, or none, where more pages follow.
        next_cursor: Begins the next page; None where this is the last.
    """

    items: tuple[RatedAnswer, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Answers to one rendered prompt.

    Args:
        prompt_hash: Of the prompt.
        template_hash: Of the template that rendered it.
        answers: In the order they were asked for; of more than `MAX_GROUP`, the rated and the
            newest.
        n_left_out: Those beyond.
    """

    prompt_hash: str
    template_hash: str
    answers: tuple[RatedAnswer, ...]
    n_left_out: int = 0


def counting(ratings: Iterable[Rating]) -> tuple[Rating, ...]:
    """The ratings that count, in order of time, each without what no longer does.

    Args:
        ratings: In the order they were written in, of any answers and raters.
    """
    taken: set[tuple[str, ...]] = set()
    withdrawn: set[tuple[str, str]] = set()
    kept = []
    for rating in sorted(ratings, key=lambda each: each.created_at)[::-1]:
        who = (rating.answer_id, rating.rater)
        if rating.retracted:
            withdrawn.add(who)
        if who not in withdrawn and (left := _left(rating, taken)) is not None:
            kept.append(left)
    return tuple(reversed(kept))


def _left(rating: Rating, taken: set[tuple[str, ...]]) -> Rating | None:
    """A rating without what newer ones said; notes what it says itself."""
    who = (rating.answer_id, rating.rater)

    def is_newest(*kind: str) -> bool:
        if (*who, *kind) in taken:
            return False
        taken.add((*who, *kind))
        return True

    thumb = rating.thumb if rating.thumb and is_newest("thumb") else None
    scale = rating.scale if rating.scale and is_newest("scale") else None
    edited = rating.edited if rating.edited and is_newest("edited") else None
    compared = rating.compared
    if compared is not None and not is_newest("than", compared.other_id):
        compared = None
    judged = (rating.thumb, rating.scale, rating.compared, rating.edited)
    judges = any(each is not None for each in (thumb, scale, compared, edited))
    only_words = all(each is None for each in judged)
    has_comment = rating.comment is not None and (judges or only_words) and is_newest("comment")
    if not judges and not has_comment:
        return None
    comment = rating.comment if has_comment else None
    return replace(
        rating, thumb=thumb, scale=scale, compared=compared, edited=edited, comment=comment
    )
