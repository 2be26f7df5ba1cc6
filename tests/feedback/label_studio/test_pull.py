"""Annotations become ratings in the log, each once."""

import pytest

from qwenkit.feedback.label_studio.pull import pull_project, pull_task, retract
from qwenkit.feedback.label_studio.push import push_tasks
from qwenkit.feedback.label_studio.tasks import pair_tasks, rating_tasks
from qwenkit.feedback.label_studio.templates import Template
from qwenkit.feedback.query import Query

from .conftest import answered
from .test_annotations import choice, preference, stars


@pytest.fixture
def pushed(label_studio, log, index):
    """Two answers in the log, and a project that asks which is better."""
    log.interaction(answered("a", "Far."))
    log.interaction(answered("b", "Near.", second=1))
    index.refresh()
    return push_tasks(
        label_studio, Template.PAIRS, pair_tasks(index.prompt_groups(Query()))
    ).project


def ratings(index):
    index.refresh()
    return list(index.all_ratings())


def test_a_choice_between_two_answers_comes_back_once(label_studio, pushed, log, index):
    [task] = label_studio.tasks[pushed.id]
    label_studio.annotate(task, preference("left"))
    first = pull_project(label_studio, pushed, index, log.rating)
    assert (first.n_new, first.n_known, dict(first.raters)) == (1, 0, {"ann@example.com": 1})
    [rating] = ratings(index)
    assert rating.answer_id == task["data"]["answer_a_id"]
    assert rating.compared.verdict == "better"
    again = pull_project(label_studio, pushed, index, log.rating)
    assert (again.n_new, again.n_known) == (0, 1)
    assert ratings(index) == [rating]


def test_a_pair_that_was_compared_is_not_pushed_again(label_studio, pushed, log, index):
    [task] = label_studio.tasks[pushed.id]
    label_studio.annotate(task, choice("verdict", "Both bad"))
    pull_project(label_studio, pushed, index, log.rating)
    index.refresh()
    assert not list(pair_tasks(index.prompt_groups(Query())))
    assert len(list(rating_tasks(index.answers(Query())))) == 1


def test_somebody_who_changes_the_mind_is_heard_again(label_studio, pushed, log, index):
    [task] = label_studio.tasks[pushed.id]
    annotation = label_studio.annotate(task, preference("left"))
    pull_project(label_studio, pushed, index, log.rating)
    index.refresh()
    annotation["result"] = [preference("right")]
    annotation["updated_at"] = "2026-11-25T13:00:00.000000Z"
    assert pull_task(label_studio, task["id"], index, log.rating).n_new == 1
    [rating] = ratings(index)
    assert rating.compared.verdict == "worse"


def test_two_people_are_two_raters(label_studio, pushed, log, index):
    [task] = label_studio.tasks[pushed.id]
    label_studio.annotate(task, preference("left"), person=1)
    label_studio.annotate(task, preference("right"), person={"id": 2, "email": "bob@example.com"})
    pull_project(label_studio, pushed, index, log.rating)
    assert {each.rater for each in ratings(index)} == {"ann@example.com", "bob@example.com"}


def test_what_is_no_rating_is_counted_by_why(label_studio, pushed, log, index):
    [task] = label_studio.tasks[pushed.id]
    label_studio.annotate(task, preference("left"), was_cancelled=True)
    label_studio.annotate(task)
    strange = label_studio.import_tasks(pushed, [{"data": {"text": "theirs"}}])
    label_studio.annotate(label_studio.tasks[pushed.id][strange], stars(3))
    report = pull_project(label_studio, pushed, index, log.rating)
    assert report.n_new == 0
    assert dict(report.skipped) == {"cancelled": 1, "empty": 1, "foreign": 1}
    assert ratings(index) == []


def test_a_rating_of_an_answer_that_the_log_lacks_is_left_where_it_is(
    label_studio, pushed, log, index
):
    [task] = label_studio.tasks[pushed.id]
    task["data"]["answer_a_id"] = "elsewhere"
    label_studio.annotate(task, preference("left"))
    report = pull_project(label_studio, pushed, index, log.rating)
    assert dict(report.skipped) == {"unknown answer": 1}


def test_an_annotation_that_is_deleted_counts_no_more(label_studio, pushed, log, index):
    [task] = label_studio.tasks[pushed.id]
    gone = label_studio.annotate(task, preference("left"), person=1)
    label_studio.annotate(task, preference("right"), person=2)
    pull_project(label_studio, pushed, index, log.rating)
    index.refresh()
    assert retract([gone["id"]], pushed.id, index, log.rating) == 1
    [left] = ratings(index)
    assert left.rater == "bob@example.com"
