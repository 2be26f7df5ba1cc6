"""Brings annotations back as ratings, each once. Knows the log; asks the server for all else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.label_studio.annotations import (
    SOURCE,
    Reading,
    external_prefix,
    read_task,
)
from qwenkit.feedback.label_studio.client import LabelStudio, Project
from qwenkit.feedback.records import Rating, new_rating_id, now
from qwenkit.models.progress import ProgressFactory, silent

Keep: TypeAlias = Callable[[Rating], None]


@dataclass(slots=True, kw_only=True)
class PullReport:
    """What a pull found.

    Args:
        n_new: Annotations that became ratings.
        n_known: Annotations that were ratings before, as they are.
        skipped: Annotations that are no rating, by why: `cancelled`, `empty`, `foreign` (the task
            is none of ours), `unknown answer` (the log does not have it).
        raters: Who gave the new ratings.
    """

    n_new: int = 0
    n_known: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    raters: Counter[str] = field(default_factory=Counter)


def pull_project(
    server: LabelStudio,
    project: Project,
    index: FeedbackIndex,
    keep: Keep,
    *,
    progress: ProgressFactory = silent,
) -> PullReport:
    """Take in every annotation of a project that is no rating yet.

    Args:
        server: Label Studio.
        project: Whose annotations.
        index: Of the log; refreshed by the caller.
        keep: Keeps a rating, and returns when it is kept.
        progress: Counts tasks.

    Raises:
        LogUnwritable: A rating could not be written; those before it are.
        RemoteError: Label Studio refuses.
        RemoteUnreachable: It does not answer.
    """
    tasks = server.annotated_tasks(project)
    people = server.people()
    report = PullReport()
    with progress(f"Pulling from {project.title!r}", total=len(tasks), unit=" tasks") as advance:
        for task in tasks:
            _take(read_task(task, people, project_id=project.id), index, keep, report)
            advance(1)
    return report


def pull_task(server: LabelStudio, task_id: int, index: FeedbackIndex, keep: Keep) -> PullReport:
    """Take in the annotations of one task, as `pull_project` does."""
    task = server.task(task_id)
    report = PullReport()
    _take(read_task(task, {}, project_id=task["project"]), index, keep, report)
    return report


def retract(
    annotation_ids: Iterable[int], project_id: int, index: FeedbackIndex, keep: Keep
) -> int:
    """Withdraw the ratings of annotations that were deleted; returns how many.

    Raises:
        LogUnwritable: One could not be written.
    """
    prefixes = tuple(external_prefix(project_id, number) for number in annotation_ids)
    gone = [
        rating
        for rating in index.all_ratings()
        if rating.external_id is not None and rating.external_id.startswith(prefixes)
    ]
    for rating in gone:
        keep(
            Rating(
                id=new_rating_id(),
                created_at=now(),
                answer_id=rating.answer_id,
                thread_id=rating.thread_id,
                rater=rating.rater,
                source=SOURCE,
                retracted=True,
            )
        )
    return len(gone)


def _take(
    readings: Iterable[Reading], index: FeedbackIndex, keep: Keep, report: PullReport
) -> None:
    for reading in readings:
        rating = reading.rating
        if rating is None:
            report.skipped[reading.skipped] += 1
        elif rating.external_id is not None and index.has_external(rating.external_id):
            report.n_known += 1
        elif index.answer(rating.answer_id) is None:
            report.skipped["unknown answer"] += 1
        else:
            keep(rating)
            report.n_new += 1
            report.raters[rating.rater] += 1
