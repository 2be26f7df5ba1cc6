from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.langfuse.client import LangfuseClient
from qwenkit.feedback.langfuse.observations import labels_of
from qwenkit.feedback.langfuse.pull import PullReport, pull_scores
from qwenkit.feedback.langfuse.push import Marks, push_log
from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.reader import read_log
from qwenkit.feedback.records import Interaction, Rating, choice_id
from qwenkit.settings import LangfuseSpec


@pytest.fixture
def log(tmp_path: Path, an_answer: Callable[..., Interaction]) -> Iterator[FeedbackLog]:
    log = FeedbackLog(tmp_path / "feedback")
    log.append(an_answer())
    yield log
    log.close()


@pytest.fixture
def pull(log: FeedbackLog, client: LangfuseClient) -> Iterator[Callable[..., PullReport]]:
    index = FeedbackIndex(log.folder)

    def pull(**options: Any) -> PullReport:
        index.refresh()
        return pull_scores(client, index, log, **options)

    yield pull
    index.close()


@pytest.fixture
def on_answer() -> dict[str, Any]:
    observation = ids.answer_observation_id("chatcmpl-1")
    return {"subject": {"kind": "observation", "id": observation, "traceId": "t"}}


def ratings(log: FeedbackLog) -> list[Rating]:
    return [each for each in read_log(log.folder) if isinstance(each, Rating)]


def test_an_annotation_becomes_a_rating_of_its_answer(
    log: FeedbackLog, pull: Callable[..., PullReport], langfuse: Any, on_answer: dict[str, Any]
) -> None:
    langfuse.annotate("s1", name="thumb", dataType="BOOLEAN", value=1, comment="yes", **on_answer)
    assert pull().n_ratings == 1
    (rating,) = ratings(log)
    assert (rating.answer_id, rating.thumb, rating.comment) == ("chatcmpl-1", "up", "yes")
    assert (rating.source, rating.rater, rating.thread_id) == (
        "langfuse",
        "langfuse:user-7",
        "thread-1",
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"name": "thumb", "dataType": "BOOLEAN", "value": 0}, {"thumb": "down"}),
        ({"name": "thumb", "dataType": "NUMERIC", "value": 1}, {"thumb": "up"}),
        ({"name": "thumb", "dataType": "CATEGORICAL", "value": "Down"}, {"thumb": "down"}),
        ({"name": "scale", "dataType": "NUMERIC", "value": 4}, {"scale": 4}),
        ({"name": "comment", "dataType": "TEXT", "value": "too long"}, {"comment": "too long"}),
    ],
)
def test_each_kind_of_score_is_read(
    log: FeedbackLog,
    pull: Callable[..., PullReport],
    langfuse: Any,
    on_answer: dict[str, Any],
    facts: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    langfuse.annotate("s1", **facts, **on_answer)
    pull()
    (rating,) = ratings(log)
    assert {name: getattr(rating, name) for name in expected} == expected


def test_a_correction_becomes_an_edit(
    log: FeedbackLog, pull: Callable[..., PullReport], langfuse: Any, on_answer: dict[str, Any]
) -> None:
    langfuse.annotate("s1", name="output", dataType="CORRECTION", value="Better.", **on_answer)
    pull()
    (rating,) = ratings(log)
    assert rating.edited is not None
    assert rating.edited.content == "Better."


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "toxic", "dataType": "BOOLEAN", "value": 1},
        {"name": "scale", "dataType": "NUMERIC", "value": 0.7},
        {"name": "scale", "dataType": "NUMERIC", "value": 9},
        {"name": "thumb", "dataType": "CATEGORICAL", "value": "sideways"},
    ],
)
def test_a_score_that_means_nothing_here_is_counted_and_never_guessed(
    log: FeedbackLog,
    pull: Callable[..., PullReport],
    langfuse: Any,
    on_answer: dict[str, Any],
    facts: dict[str, Any],
) -> None:
    langfuse.annotate("s1", **facts, **on_answer)
    report = pull()
    assert (report.n_ratings, sum(report.left_out.values())) == (0, 1)
    assert ratings(log) == []


def test_each_score_comes_once_however_often_it_is_pulled(
    log: FeedbackLog, pull: Callable[..., PullReport], langfuse: Any, on_answer: dict[str, Any]
) -> None:
    for number in range(130):
        langfuse.annotate(f"s{number}", name="scale", dataType="NUMERIC", value=3, **on_answer)
    assert pull().n_ratings == 130
    assert pull().n_ratings == 0
    assert len(ratings(log)) == 130


def test_a_score_that_was_changed_comes_again_and_the_newer_word_counts(
    log: FeedbackLog, pull: Callable[..., PullReport], langfuse: Any, on_answer: dict[str, Any]
) -> None:
    langfuse.annotate("s1", name="scale", dataType="NUMERIC", value=2, **on_answer)
    pull()
    langfuse.annotate(
        "s1",
        name="scale",
        dataType="NUMERIC",
        value=5,
        **on_answer,
        updatedAt="2026-11-26T08:00:00.000Z",
    )
    assert pull().n_ratings == 1
    index = FeedbackIndex(log.folder)
    index.refresh()
    assert [each.scale for each in index.ratings(answer_id="chatcmpl-1")] == [5]
    index.close()


def test_a_score_of_a_trace_is_of_its_last_answer(
    log: FeedbackLog,
    pull: Callable[..., PullReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
) -> None:
    step = {"request_id": "run-1", "source": "agent"}
    first = an_answer("ai-1", prompt_hash="1" * 64, **step)
    later = {"created_at": "2026-11-25T14:00:09.000000Z", "prompt_hash": "2" * 64}
    log.append(first)
    log.append(an_answer("ai-2", **step, **later))
    subject = {"kind": "trace", "id": ids.trace_id(first)}
    langfuse.annotate("s1", name="thumb", dataType="BOOLEAN", value=1, subject=subject)
    pull()
    (rating,) = ratings(log)
    assert rating.answer_id == "ai-2"


def test_a_score_of_a_trace_of_several_choices_is_of_none_of_them(
    log: FeedbackLog,
    pull: Callable[..., PullReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
) -> None:
    for choice in (1, 2):
        log.append(replace(an_answer(), id=choice_id("chatcmpl-1", choice)))
    subject = {"kind": "trace", "id": ids.trace_id(an_answer())}
    langfuse.annotate("s1", name="thumb", dataType="BOOLEAN", value=1, subject=subject)
    assert pull().n_ratings == 0


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "session", "id": "thread-1"},
        {"kind": "experiment", "id": "run"},
        {"kind": "observation", "id": "0" * 16, "traceId": "t"},
        {"kind": "trace", "id": "0" * 32},
    ],
)
def test_a_score_of_something_else_is_counted(
    pull: Callable[..., PullReport], langfuse: Any, subject: dict[str, Any]
) -> None:
    langfuse.annotate("s1", name="thumb", dataType="BOOLEAN", value=1, subject=subject)
    report = pull()
    assert (report.n_ratings, sum(report.left_out.values())) == (0, 1)


def test_what_was_pushed_does_not_come_back(
    log: FeedbackLog,
    pull: Callable[..., PullReport],
    client: LangfuseClient,
    spec: LangfuseSpec,
    langfuse: Any,
    a_rating: Callable[..., Rating],
) -> None:
    log.append(a_rating(thumb="up"))
    index = FeedbackIndex(log.folder)
    index.refresh()
    push_log(index, client, labels=labels_of(spec), marks=Marks(log.folder, "project"))
    index.close()
    assert "rating-1-thumb" in langfuse.scores
    assert pull().n_ratings == 0
    assert len(ratings(log)) == 1


def test_evaluators_are_asked_only_when_they_are_wanted(
    pull: Callable[..., PullReport], langfuse: Any, on_answer: dict[str, Any]
) -> None:
    judge = {"source": "EVAL", "authorUserId": None}
    langfuse.annotate("s1", name="scale", dataType="NUMERIC", value=3, **on_answer, **judge)
    assert pull().n_ratings == 0
    assert pull(sources=("ANNOTATION", "API", "EVAL")).n_ratings == 1


def test_older_scores_are_not_asked_for_when_a_time_is_given(
    pull: Callable[..., PullReport], langfuse: Any, on_answer: dict[str, Any]
) -> None:
    langfuse.annotate("s1", name="scale", dataType="NUMERIC", value=3, **on_answer)
    assert pull(since="2026-11-26T00:00:00.000000Z").n_ratings == 0
    assert pull(since="2026-11-25T00:00:00.000000Z").n_ratings == 1
