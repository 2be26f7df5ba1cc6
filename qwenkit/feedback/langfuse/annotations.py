"""What was said in Langfuse, as ratings. Pure: knows scores as the server gives them, and records.

A score is read by its name, for a name is all that says what a number is about. Corrections need no
name. Values that are no judgement of ours are told, never guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from qwenkit.feedback.langfuse.scores import SOURCE, is_own
from qwenkit.feedback.records import Edit, Interaction, Rating, Thumb, parse_moment

Json: TypeAlias = Mapping[str, Any]
Reading: TypeAlias = Rating | str
"""A rating, or why a score is none."""

THUMB, SCALE, COMMENT = "thumb", "scale", "comment"
"""What scores are called in Langfuse; the same as those that are pushed."""
OWN = "was pushed from here"
UNKNOWN_NAME = "has a name that means nothing here"
UNKNOWN_VALUE = "has a value that means nothing here"
_UP = frozenset({"up", "good", "yes", "true", "thumbs up", "👍"})
_DOWN = frozenset({"down", "bad", "no", "false", "thumbs down", "👎"})


@dataclass(frozen=True, slots=True)
class Subject:
    """What a score is of.

    Args:
        kind: `observation`, `trace`, `session` or `experiment`.
        id: Its own id.
    """

    kind: Literal["observation", "trace", "session", "experiment"]
    id: str


def subject_of(score: Json) -> Subject | None:
    """What a score is of; None where it does not say."""
    found = score.get("subject")
    if not isinstance(found, Mapping) or not (found.get("id") and found.get("kind")):
        return None
    return Subject(found["kind"], str(found["id"]))


def read_score(score: Json, answer: Interaction) -> Reading:
    """A score as a rating of an answer.

    Args:
        score: As `GET /api/public/v3/scores` gives it, with all of its fields.
        answer: What it is of.
    """
    if is_own(str(score["id"])):
        return OWN
    said = _said(score)
    if isinstance(said, str):
        return said
    external_id = external_id_of(score)
    return Rating(
        id=f"rating-{hashlib.sha256(external_id.encode()).hexdigest()[:24]}",
        created_at=parse_moment(str(score["updatedAt"]), param="updatedAt"),
        answer_id=answer.id,
        thread_id=answer.thread_id,
        rater=_rater(score),
        source=SOURCE,
        external_id=external_id,
        **said,
    )


def external_id_of(score: Json) -> str:
    """A score's name in the log: another one each time that it was changed."""
    return f"{SOURCE}:{score['id']}:{score['updatedAt']}"


def _said(score: Json) -> dict[str, Any] | str:
    """The judgement, or why there is none."""
    value, name = score.get("value"), score["name"]
    comment = str(score.get("comment") or "").strip() or None
    if score["dataType"] == "CORRECTION":
        edited = value if isinstance(value, str) and value.strip() else None
        return {"edited": Edit(content=edited), "comment": comment} if edited else UNKNOWN_VALUE
    if name == THUMB:
        thumb = _thumb(value)
        return UNKNOWN_VALUE if thumb is None else {"thumb": thumb, "comment": comment}
    if name == SCALE:
        scale = _scale(value)
        return UNKNOWN_VALUE if scale is None else {"scale": scale, "comment": comment}
    if name == COMMENT:
        words = value.strip() if isinstance(value, str) else comment
        return {"comment": words} if words else UNKNOWN_VALUE
    return UNKNOWN_NAME


def _thumb(value: Any) -> Thumb | None:
    if isinstance(value, str):
        word = value.strip().lower()
        return "up" if word in _UP else "down" if word in _DOWN else None
    if isinstance(value, bool) or value in (0, 1):
        return "up" if value else "down"
    return None


def _scale(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value in (1, 2, 3, 4, 5) else None


def _rater(score: Json) -> str:
    """Who gave it: a person of Langfuse's, or what it came from."""
    author = score.get("authorUserId")
    return f"langfuse:{author or str(score.get('source', '')).lower()}"
