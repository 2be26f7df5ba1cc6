"""What people said there is read as they meant it."""

import pytest

from qwenkit.feedback.label_studio.annotations import external_prefix, read_task
from qwenkit.feedback.label_studio.tasks import KEY
from qwenkit.feedback.records import Comparison, Edit, decode, encode

from .conftest import PEOPLE

PAIR = {KEY: "pair-1", "answer_a_id": "a", "answer_b_id": "b", "thread_id": "thread"}
SINGLE = {KEY: "rating-1", "answer_id": "a", "thread_id": None}


def choice(name, value):
    return {
        "from_name": name,
        "to_name": "answer_a",
        "type": "choices",
        "value": {"choices": [value]},
    }


def preference(side):
    # The page writes the control's own name as what it judges.
    return {
        "from_name": "preference",
        "to_name": "preference",
        "type": "pairwise",
        "origin": "manual",
        "value": {"selected": side},
    }


def text(name, value):
    return {
        "from_name": name,
        "to_name": "answer_a",
        "type": "textarea",
        "value": {"text": [value]},
    }


def stars(value):
    return {
        "from_name": "scale",
        "to_name": "answer",
        "type": "rating",
        "value": {"rating": value},
    }


def read(data, *results, **more):
    annotation = {
        "id": 7,
        "completed_by": 2,
        "result": list(results),
        "was_cancelled": False,
        "created_at": "2026-11-25T12:00:00.000001Z",
        "updated_at": "2026-11-25T12:30:00.000001Z",
    }
    task = {"id": 1, "data": data, "annotations": [annotation | more]}
    [reading] = read_task(task, PEOPLE, project_id=3)
    return reading


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ([preference("left")], "better"),
        ([preference("right")], "worse"),
        ([choice("verdict", "Equally good")], "tie"),
        ([choice("verdict", "Both bad")], "tie"),
        ([preference("left"), choice("verdict", "Equally good")], "tie"),
    ],
)
def test_a_pair_is_compared_as_it_was_clicked(said, verdict):
    rating = read(PAIR, *said, text("comment", " clearer ")).rating
    assert rating.answer_id == "a"
    assert rating.compared == Comparison(other_id="b", verdict=verdict)
    assert rating.comment == "clearer"
    assert rating.rater == "bob@example.com"
    assert rating.source == "label-studio"
    assert rating.thread_id == "thread"
    assert rating.created_at == "2026-11-25T12:30:00.000001Z"
    assert decode(encode(rating)) == rating


def test_a_single_answer_is_rated_in_every_way_that_was_filled_in():
    said = [choice("thumb", "Bad"), stars(2), text("edited", "Better so."), text("comment", "no")]
    rating = read(SINGLE, *said).rating
    assert (rating.answer_id, rating.thumb, rating.scale) == ("a", "down", 2)
    assert rating.edited == Edit(content="Better so.")
    assert rating.comment == "no"
    assert rating.compared is None


def test_a_comment_alone_is_a_rating():
    assert read(SINGLE, text("comment", "Hm.")).rating.comment == "Hm."


@pytest.mark.parametrize(
    ("data", "said", "more", "why"),
    [
        (PAIR, [preference("left")], {"was_cancelled": True}, "cancelled"),
        (PAIR, [], {}, "empty"),
        (PAIR, [preference("middle")], {}, "empty"),
        (SINGLE, [stars(9)], {}, "empty"),
        (SINGLE, [text("comment", "  ")], {}, "empty"),
        ({"text": "theirs"}, [choice("thumb", "Good")], {}, "foreign"),
    ],
)
def test_what_says_nothing_is_no_rating_and_says_why(data, said, more, why):
    reading = read(data, *said, **more)
    assert reading.rating is None
    assert reading.skipped == why


def test_an_annotation_that_changed_has_another_external_id_with_the_same_beginning():
    first = read(SINGLE, stars(2)).rating
    again = read(SINGLE, stars(2)).rating
    later = read(SINGLE, stars(4), updated_at="2026-11-25T13:00:00.000001Z").rating
    assert first == again
    assert first.external_id != later.external_id
    assert first.id != later.id
    assert {each.external_id.startswith(external_prefix(3, 7)) for each in (first, later)} == {True}


@pytest.mark.parametrize(
    ("person", "rater"),
    [
        ({"id": 1, "email": "ann@example.com"}, "ann@example.com"),
        (1, "ann@example.com"),
        (9, "label-studio:9"),
        (None, "label-studio:None"),
    ],
)
def test_the_annotator_is_the_rater(person, rater):
    assert read(SINGLE, stars(3), completed_by=person).rating.rater == rater
