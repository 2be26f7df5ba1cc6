"""What people said in Label Studio, as ratings. Pure: knows exported tasks and the log's records.

Controls are told apart by `from_name` and `type`, never by `to_name`: the page writes the control's
own name there for a pairwise choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from qwenkit.feedback.label_studio.tasks import KEY
from qwenkit.feedback.label_studio.templates import (
    BOTH_BAD,
    COMMENT,
    DOWN,
    EDITED,
    PREFERENCE,
    SCALE,
    THUMB,
    TIE,
    UP,
    VERDICT,
)
from qwenkit.feedback.records import Comparison, Edit, Rating, RatingSource, parse_moment

Json: TypeAlias = Mapping[str, Any]
Thumb: TypeAlias = Literal["up", "down"]
SOURCE: RatingSource = "label-studio"
_THUMBS: Mapping[str, Thumb] = {UP: "up", DOWN: "down"}
_LEFT_IS: Mapping[str, Literal["better", "worse"]] = {"left": "better", "right": "worse"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one annotation says.

    Args:
        annotation_id: Its number.
        rating: As a record; None where it says nothing, or nothing that can be used.
        skipped: Why there is no rating: `cancelled`, `empty`, `foreign` (its task is none of ours).
    """

    annotation_id: int
    rating: Rating | None
    skipped: str = ""


def read_task(task: Json, people: Mapping[int, str], *, project_id: int) -> Iterator[Reading]:
    """What each annotation of a task says.

    Args:
        task: As Label Studio exports it.
        people: Addresses of people by number, for exports that name them by number alone.
        project_id: The task's project; part of a rating's external id.
    """
    data = task.get("data") or {}
    for annotation in task.get("annotations") or ():
        yield _read(annotation, data, people, project_id)


def external_prefix(project_id: int, annotation_id: int) -> str:
    """What the external ids of an annotation's ratings begin with, one for each time it changed."""
    return f"{SOURCE}:{project_id}:{annotation_id}:"


def _read(annotation: Json, data: Json, people: Mapping[int, str], project_id: int) -> Reading:
    number = int(annotation["id"])
    if annotation.get("was_cancelled"):
        return Reading(annotation_id=number, rating=None, skipped="cancelled")
    if KEY not in data:
        return Reading(annotation_id=number, rating=None, skipped="foreign")
    said = _controls(annotation.get("result") or ())
    judgement = _pair_judgement(said, data) if "answer_a_id" in data else _judgement(said)
    comment = _first(said.get(COMMENT, {}).get("text"))
    if not judgement and not comment:
        return Reading(annotation_id=number, rating=None, skipped="empty")
    changed = str(annotation.get("updated_at") or annotation.get("created_at") or "")
    external_id = external_prefix(project_id, number) + changed
    return Reading(
        annotation_id=number,
        rating=Rating(
            id=f"rating-{hashlib.sha256(external_id.encode()).hexdigest()[:24]}",
            created_at=parse_moment(changed, param="updated_at"),
            answer_id=str(data.get("answer_a_id") or data.get("answer_id")),
            thread_id=data.get("thread_id"),
            rater=_rater(annotation.get("completed_by"), people),
            source=SOURCE,
            comment=comment,
            external_id=external_id,
            **judgement,
        ),
    )


def _controls(results: Iterable[Json]) -> dict[str, Json]:
    """The value of each control by its name."""
    return {
        result["from_name"]: result["value"]
        for result in results
        if isinstance(result.get("from_name"), str) and isinstance(result.get("value"), Mapping)
    }


def _pair_judgement(said: Mapping[str, Json], data: Json) -> dict[str, Any]:
    """A tie that was chosen says more than a side that was clicked before it."""
    other = str(data["answer_b_id"])
    verdict = _first(said.get(VERDICT, {}).get("choices"))
    side = str(said.get(PREFERENCE, {}).get("selected"))
    if verdict in (TIE, BOTH_BAD):
        return {"compared": Comparison(other_id=other, verdict="tie")}
    if side in _LEFT_IS:
        return {"compared": Comparison(other_id=other, verdict=_LEFT_IS[side])}
    return {}


def _judgement(said: Mapping[str, Json]) -> dict[str, Any]:
    thumb = _THUMBS.get(_first(said.get(THUMB, {}).get("choices")) or "")
    scale = said.get(SCALE, {}).get("rating")
    edited = _first(said.get(EDITED, {}).get("text"))
    found: dict[str, Any] = {}
    if thumb is not None:
        found["thumb"] = thumb
    if isinstance(scale, int) and 1 <= scale <= 5:
        found["scale"] = scale
    if edited:
        found["edited"] = Edit(content=edited)
    return found


def _first(values: Any) -> str | None:
    """The first text of a list; a single one is written without the list by older versions."""
    if isinstance(values, str):
        return values.strip() or None
    if isinstance(values, list) and values and isinstance(values[0], str):
        return values[0].strip() or None
    return None


def _rater(person: Any, people: Mapping[int, str]) -> str:
    if isinstance(person, Mapping):
        return str(person.get("email") or f"{SOURCE}:{person.get('id')}")
    return people.get(person) or f"{SOURCE}:{person}"
