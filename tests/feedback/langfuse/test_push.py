from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import LogUnreadable, RemoteError
from qwenkit.feedback.datasets.rows import Row
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.langfuse.client import LangfuseClient
from qwenkit.feedback.langfuse.observations import labels_of
from qwenkit.feedback.langfuse.push import (
    N_TOGETHER,
    Marks,
    Place,
    PushReport,
    dataset_item,
    push_log,
    push_rows,
)
from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.records import Interaction, Rating, ToolRun
from qwenkit.settings import LangfuseSpec


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FeedbackLog]:
    log = FeedbackLog(tmp_path / "feedback")
    yield log
    log.close()


@pytest.fixture
def index(log: FeedbackLog) -> Iterator[FeedbackIndex]:
    log.folder.mkdir()
    index = FeedbackIndex(log.folder)
    yield index
    index.close()


@pytest.fixture
def push(
    index: FeedbackIndex, client: LangfuseClient, spec: LangfuseSpec
) -> Callable[..., PushReport]:
    def push(**options: Any) -> PushReport:
        index.refresh()
        marks = Marks(index.folder, "project")
        return push_log(index, client, labels=labels_of(spec), marks=marks, **options)

    return push


def test_the_whole_log_is_sent_the_first_time(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
    a_tool_run: Callable[..., ToolRun],
) -> None:
    log.append(an_answer())
    log.append(a_tool_run())
    log.append(a_rating(thumb="up", scale=5))
    report = push()
    assert (report.n_answers, report.n_tool_runs, report.n_scores) == (1, 1, 2)
    (generation,) = langfuse.observations("generation")
    assert langfuse.scores["rating-1-scale"]["observationId"] == generation.id


def test_only_what_is_new_is_sent_the_next_time(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    log.append(an_answer("chatcmpl-1"))
    push()
    log.append(an_answer("chatcmpl-2"))
    log.append(a_rating(thumb="down"))
    report = push()
    assert (report.n_answers, report.n_scores) == (1, 1)
    assert len(langfuse.spans) == 2
    nothing = push()
    assert (nothing.n_answers, nothing.n_scores) == (0, 0)


def test_everything_can_be_sent_again_and_is_there_once(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    log.append(an_answer())
    log.append(a_rating(thumb="up"))
    push()
    before = (dict(langfuse.spans), dict(langfuse.scores))
    report = push(everything=True)
    assert report.n_answers == 1
    assert (langfuse.spans, langfuse.scores) == before


def test_a_push_that_breaks_goes_on_where_it_broke(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
) -> None:
    for number in range(2 * N_TOGETHER):
        log.append(an_answer(f"chatcmpl-{number}"))
    langfuse.refuse_after = 1
    with pytest.raises(RemoteError):
        push()
    assert len(langfuse.spans) == N_TOGETHER
    langfuse.refuse_after = None
    report = push()
    assert report.n_answers == N_TOGETHER
    assert len(langfuse.spans) == 2 * N_TOGETHER


def test_a_rating_that_no_longer_counts_is_deleted(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    log.append(an_answer())
    log.append(a_rating("rating-1", thumb="up"))
    push()
    later = "2026-11-25T15:00:00.000000Z"
    log.append(a_rating("rating-2", thumb="down", created_at=later))
    report = push()
    assert report.n_deleted == 1
    assert list(langfuse.scores) == ["rating-2-thumb"]


def test_ratings_from_langfuse_stay_here(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    log.append(an_answer())
    log.append(a_rating(thumb="up", source="langfuse", external_id="langfuse:1"))
    report = push()
    assert (report.n_scores, report.n_from_langfuse) == (0, 1)
    assert langfuse.scores == {}


def test_what_can_not_be_sent_is_counted_by_its_reason(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    log.append(an_answer())
    log.append(a_rating(answer_id="chatcmpl-gone", thumb="up"))
    (path,) = log.folder.glob("*.jsonl")
    with path.open("a", encoding="utf-8") as file:
        file.write("no record\n")
    report = push()
    assert report.n_answers == 1
    assert sum(report.left_out.values()) == 2


def test_scores_that_langfuse_refuses_are_told(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    langfuse: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    log.append(an_answer())
    log.append(a_rating(thumb="up"))
    langfuse.refused_scores.add("rating-1-thumb")
    report = push()
    assert (report.n_scores, [each.id for each in report.refused]) == (0, ["rating-1-thumb"])


def test_each_project_has_a_mark_of_its_own(tmp_path: Path) -> None:
    one, other = Marks(tmp_path, "one"), Marks(tmp_path, "other")
    one.save(Place("2026-11-25.jsonl", 7))
    assert other.load() is None
    other.save(Place("2026-11-26.jsonl", 9))
    assert one.load() == Place("2026-11-25.jsonl", 7)


@pytest.mark.parametrize("text", ["{", "[]", '{"one": 1}', '{"one": {"file": "2026-11-25.jsonl"}}'])
def test_a_damaged_mark_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "langfuse.json").write_text(text, encoding="utf-8")
    with pytest.raises(LogUnreadable):
        Marks(tmp_path, "one").load()


def test_files_that_were_deleted_for_their_age_do_not_hold_up_a_push(
    log: FeedbackLog,
    push: Callable[..., PushReport],
    an_answer: Callable[..., Interaction],
) -> None:
    log.append(an_answer("chatcmpl-1"))
    push()
    (path,) = log.folder.glob("*.jsonl")
    log.close()
    path.rename(path.with_name("2099-01-01.jsonl"))
    assert push().n_answers == 1


def row(**data: Any) -> Row:
    about = {"origin": "thumb", "answers": ["chatcmpl-1"], "ratings": ["rating-1"]}
    return Row("train", "thumb", {**data, **about, "prompt_hash": "p"})


ASKED = [{"role": "user", "content": "Where is Oslo?"}]
GOOD = {"role": "assistant", "content": "In Norway."}
BAD = {"role": "assistant", "content": "No idea."}


@pytest.mark.parametrize(
    ("fields", "expected", "rest"),
    [
        ({"completion": [GOOD]}, GOOD, {}),
        ({"chosen": [GOOD], "rejected": [BAD]}, GOOD, {"rejected": [BAD]}),
        ({"completion": [GOOD], "label": True}, GOOD, {"label": True}),
        ({"completion": [BAD], "label": False}, None, {"completion": [BAD], "label": False}),
    ],
)
def test_an_item_has_the_good_answer_as_the_expected_one(
    index: FeedbackIndex, fields: dict[str, Any], expected: Any, rest: dict[str, Any]
) -> None:
    item = dataset_item("d", row(prompt=ASKED, tools="[]", **fields), index)
    assert item["input"] == ASKED
    assert item["expectedOutput"] == expected
    assert rest.items() <= item["metadata"].items()


def test_of_a_sample_the_prompts_text_is_the_input(index: FeedbackIndex) -> None:
    item = dataset_item("d", row(sample=["Where is Oslo?", "In Norway."], reward=1.0), index)
    assert item["input"] == "Where is Oslo?"
    assert item["expectedOutput"] is None
    assert item["metadata"]["reward"] == 1.0


def test_tools_stand_beside_an_items_messages(index: FeedbackIndex) -> None:
    tools = [{"type": "function", "function": {"name": "map"}}]
    item = dataset_item("d", row(prompt=ASKED, tools=json.dumps(tools), completion=[GOOD]), index)
    assert item["input"] == {"messages": ASKED, "tools": tools}


def test_rows_become_items_that_are_there_once_and_lead_to_their_trace(
    log: FeedbackLog,
    index: FeedbackIndex,
    client: LangfuseClient,
    langfuse: Any,
    an_answer: Callable[..., Interaction],
) -> None:
    log.append(an_answer())
    index.refresh()
    rows = [row(prompt=ASKED, tools="[]", completion=[GOOD])]
    for _ in range(2):
        push_rows(rows, index, client, name="d", format="sft", options={"seed": 0})
    (item,) = langfuse.items.values()
    assert item["sourceTraceId"] == ids.trace_id(an_answer())
    assert item["sourceObservationId"] == ids.answer_observation_id("chatcmpl-1")
    assert langfuse.datasets["d"]["metadata"] == {"seed": 0}


def test_the_same_row_in_two_datasets_is_two_items(index: FeedbackIndex) -> None:
    same = row(prompt=ASKED, completion=[GOOD])
    assert dataset_item("one", same, index)["id"] != dataset_item("two", same, index)["id"]
