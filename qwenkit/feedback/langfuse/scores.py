"""An answer's ratings as scores, and the scores that no longer count. Pure: records and JSON.

    thumb       BOOLEAN      1 is up
    scale       NUMERIC      1 (worst) to 5
    comparison  CATEGORICAL  better, worse or tie; the metadata name the other answer
    output      CORRECTION   a better wording; Langfuse gives every correction that name
    comment     TEXT         words alone; other scores carry the words beside them

A score's id is its rating's, and says what kind it is: what is sent twice is there once. Ratings
that were pulled from Langfuse stand there already and are never sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.query import counting
from qwenkit.feedback.records import Interaction, Rating

DataType: TypeAlias = Literal["BOOLEAN", "NUMERIC", "CATEGORICAL", "CORRECTION", "TEXT"]
Kind: TypeAlias = Literal["thumb", "scale", "comparison", "output", "comment"]

SOURCE: Literal["langfuse"] = "langfuse"
MAX_TEXT = 500
"""Most characters of a TEXT score."""
_OWN = ("rating-", "run-")
"""What the ids of scores begin with that are made here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One judgement of one answer.

    Args:
        id: Made from the rating's.
        trace_id: The answer's request.
        observation_id: The answer; None judges the whole trace.
        name: What is judged.
        data_type: What the value is.
        value: As that type has it.
        created_at: When it was said, as records have it. Langfuse keeps a score once by id and day.
        comment: In words.
        metadata: Who said it, and more.
        environment: As the observation's.
    """

    id: str
    trace_id: str
    observation_id: str | None
    name: str
    data_type: DataType
    value: str | float
    created_at: str
    comment: str | None
    metadata: Mapping[str, Any]
    environment: str | None

    def as_event(self) -> dict[str, Any]:
        """As an event of `POST /api/public/ingestion`."""
        body = {
            "id": self.id,
            "traceId": self.trace_id,
            "observationId": self.observation_id,
            "name": self.name,
            "dataType": self.data_type,
            "value": self.value,
            "comment": self.comment,
            "metadata": self.metadata,
            "environment": self.environment,
        }
        return {
            "id": self.id,
            "type": "score-create",
            "timestamp": self.created_at,
            "body": {name: value for name, value in body.items() if value is not None},
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """What people think of an answer now.

    Args:
        scores: Those that count.
        stale: Ids of scores that may be in Langfuse and count no longer.
    """

    scores: tuple[Score, ...]
    stale: tuple[str, ...]


def judgement(
    interaction: Interaction, ratings: Sequence[Rating], environment: str | None = None
) -> Judgement:
    """What an answer's ratings come to; without words where the log has none of the answer's.

    Args:
        interaction: The answer.
        ratings: Every rating of it, those that no longer count too, in the order they were given.
        environment: As the answer's observation has it.
    """
    ours = [each for each in ratings if each.source != SOURCE]
    counts = [each for each in counting(ratings) if each.source != SOURCE]
    if interaction.answer is None:
        counts = [replace(each, comment=None, edited=None) for each in counts]
    scores = tuple(score for each in counts for score in _scores(interaction, each, environment))
    kept = {score.id for score in scores}
    stale = tuple(
        name
        for each in ours
        for name in (_id(each, kind) for kind in _kinds(each))
        if name not in kept
    )
    return Judgement(scores, stale)


def is_own(score_id: str) -> bool:
    """Whether a score was made here."""
    return score_id.startswith(_OWN)


def _scores(interaction: Interaction, rating: Rating, environment: str | None) -> Iterator[Score]:
    for kind in _kinds(rating):
        data_type, value, more = _value(rating, kind)
        yield Score(
            id=_id(rating, kind),
            trace_id=ids.trace_id(interaction),
            observation_id=ids.answer_observation_id(interaction.id),
            name=kind,
            data_type=data_type,
            value=value,
            created_at=rating.created_at,
            comment=rating.comment,
            metadata={
                "rating_id": rating.id,
                "answer_id": rating.answer_id,
                "rater": rating.rater,
                "source": rating.source,
                **more,
            },
            environment=environment,
        )


def _kinds(rating: Rating) -> tuple[Kind, ...]:
    said: Iterable[tuple[Kind, object]] = (
        ("thumb", rating.thumb),
        ("scale", rating.scale),
        ("comparison", rating.compared),
        ("output", rating.edited),
    )
    kinds = tuple(kind for kind, what in said if what is not None)
    return kinds or (("comment",) if rating.comment else ())


def _value(rating: Rating, kind: Kind) -> tuple[DataType, str | float, dict[str, Any]]:
    """A score's type and value, and what else is to be said of it."""
    if kind == "thumb":
        return "BOOLEAN", int(rating.thumb == "up"), {}
    if kind == "scale":
        return "NUMERIC", rating.scale or 0, {}
    if kind == "comparison" and rating.compared is not None:
        other = rating.compared.other_id
        about = {"other_id": other, "other_observation_id": ids.answer_observation_id(other)}
        return "CATEGORICAL", rating.compared.verdict, about
    if kind == "output" and rating.edited is not None:
        reasoning = rating.edited.reasoning_content
        return (
            "CORRECTION",
            rating.edited.content,
            {} if reasoning is None else {"reasoning_content": reasoning},
        )
    return "TEXT", (rating.comment or "")[:MAX_TEXT], {}


def _id(rating: Rating, kind: Kind) -> str:
    return f"{rating.id}-{kind}"
