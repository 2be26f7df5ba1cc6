"""Scores of Langfuse become ratings in the log, each once. Knows the order of the steps only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.langfuse.annotations import (
    OWN,
    Subject,
    external_id_of,
    read_score,
    subject_of,
)
from qwenkit.feedback.langfuse.client import LangfuseClient
from qwenkit.feedback.langfuse.scores import is_own
from qwenkit.feedback.query import Query
from qwenkit.feedback.records import Interaction
from qwenkit.feedback.sinks import Sink
from qwenkit.models.progress import ProgressFactory, silent

PEOPLE = ("ANNOTATION", "API")
"""Where people's scores come from: Langfuse's pages, and programs that send them."""
EVALUATORS = "EVAL"
"""Where the scores of Langfuse's own evaluators come from."""

KNOWN = "was pulled before"
NO_SUBJECT = "is of a session or a run, and not of an answer"
UNKNOWN_ANSWER = "is of an answer that the log does not have"
SEVERAL = "is of a trace of several choices, and of none of them"


@dataclass(slots=True, kw_only=True)
class PullReport:
    """What a pull found.

    Args:
        n_ratings: Ratings that are new in the log.
        left_out: Scores that became none, by the reason.
    """

    n_ratings: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def pull_scores(
    client: LangfuseClient,
    index: FeedbackIndex,
    log: Sink,
    *,
    sources: Sequence[str] = PEOPLE,
    since: str | None = None,
    progress: ProgressFactory = silent,
) -> PullReport:
    """Bring scores that were given in Langfuse into the log.

    A score that was changed there since it was pulled comes again: its rater's newer word counts.

    Args:
        client: The project.
        index: Of the log; refreshed by the caller.
        log: Takes the ratings.
        sources: Where they were given.
        since: Given at this moment or later.
        progress: Counts scores, then answers of the log.

    Raises:
        InvalidSettings: Langfuse refuses the keys.
        RemoteError: It refuses to tell.
        RemoteUnreachable: It does not answer.
        LogUnwritable: A rating can't be written; the next pull brings it.
    """
    report = PullReport()
    wanted: list[dict[str, Any]] = []
    with progress("Scores", total=None, unit="scores") as advance:
        for score in client.scores(sources=sources, since=since):
            reason = _reason_against(score, index)
            if reason is None:
                wanted.append(score)
            else:
                report.left_out[reason] += 1
            advance(1)
    subjects = {subject for score in wanted if (subject := subject_of(score)) is not None}
    answers = _answers(index, subjects, progress)
    for score in wanted:
        _take(score, answers, log, report)
    return report


def _reason_against(score: Mapping[str, Any], index: FeedbackIndex) -> str | None:
    """Why a score is not looked at further, by what it says of itself."""
    if is_own(str(score["id"])):
        return OWN
    subject = subject_of(score)
    if subject is None or subject.kind not in ("observation", "trace"):
        return NO_SUBJECT
    return KNOWN if index.has_external(external_id_of(score)) else None


def _take(
    score: Mapping[str, Any],
    answers: Mapping[Subject | None, Interaction | None],
    log: Sink,
    report: PullReport,
) -> None:
    subject = subject_of(score)
    if subject not in answers:
        report.left_out[UNKNOWN_ANSWER] += 1
        return
    answer = answers[subject]
    reading = SEVERAL if answer is None else read_score(score, answer)
    if isinstance(reading, str):
        report.left_out[reading] += 1
    else:
        log.rating(reading)
        report.n_ratings += 1


def _answers(
    index: FeedbackIndex, wanted: Set[Subject], progress: ProgressFactory
) -> dict[Subject | None, Interaction | None]:
    """The answers that scores are of; None where a trace has several choices of one.

    Ids can't be turned back into answers: the log is gone through once, whatever their number.
    A trace stands for its last answer: what a run of the agent ends with.
    """
    found: dict[Subject | None, Interaction | None] = {}
    if not wanted:
        return found
    query = Query()
    with progress("Answers", total=index.count(query), unit="answers") as advance:
        for rated in index.answers(query):
            answer = rated.interaction
            observation = Subject("observation", ids.answer_observation_id(answer.id))
            if observation in wanted:
                found[observation] = answer
            trace = Subject("trace", ids.trace_id(answer))
            if trace in wanted:
                found[trace] = _last(found.get(trace, answer), answer)
            advance(1)
    return found


def _last(before: Interaction | None, answer: Interaction) -> Interaction | None:
    """What a trace stands for after another answer of it; None from its second choice on."""
    if before is None or (before is not answer and before.prompt_hash == answer.prompt_hash):
        return None
    return answer
