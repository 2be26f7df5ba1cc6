"""Which ratings count, and what can't be asked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.errors import InvalidRequest
from qwenkit.feedback.query import Query, counting
from qwenkit.feedback.records import Comparison, Edit, Rating


def test_the_newest_rating_of_each_kind_counts(rating) -> None:
    first = rating("a", minute=1, thumb="down", scale=2, comment="wrong")
    second = rating("b", minute=2, thumb="up")

    assert counting([first, second]) == (
        rating("a", minute=1, scale=2, comment="wrong"),
        second,
    )


def test_a_comment_goes_with_the_last_judgement_of_its_rating(rating) -> None:
    first = rating("a", minute=1, thumb="down", comment="wrong")
    only_words = rating("b", minute=2, comment="better now")
    second = rating("c", minute=3, thumb="up")

    assert counting([first, second]) == (second,)
    assert counting([first, only_words, second]) == (only_words, second)


def test_raters_do_not_overrule_each_other(rating) -> None:
    both = (
        rating("a", minute=1, rater="ada", thumb="down"),
        rating("b", minute=2, rater="bob", thumb="up"),
    )

    assert counting(both) == both


def test_answers_are_rated_one_by_one(rating) -> None:
    both = (rating("a", "x", minute=1, thumb="down"), rating("b", "y", minute=2, thumb="up"))

    assert counting(both) == both


def test_comparisons_with_different_answers_both_count(rating) -> None:
    with_x = rating("a", minute=1, compared=Comparison(other_id="x", verdict="better"))
    with_y = rating("b", minute=2, compared=Comparison(other_id="y", verdict="worse"))
    again = rating("c", minute=3, compared=Comparison(other_id="x", verdict="tie"))

    assert counting([with_x, with_y]) == (with_x, with_y)
    assert counting([with_x, with_y, again]) == (with_y, again)


def test_a_retraction_withdraws_what_was_said_before_and_nothing_after(rating) -> None:
    before = rating("a", minute=1, thumb="down", edited=Edit(content="x"))
    gone = rating("b", minute=2, retracted=True)
    after = rating("c", minute=3, scale=4)
    other = rating("d", minute=1, rater="bob", thumb="up")

    assert counting([before, other, gone]) == (other,)
    assert counting([before, gone, after]) == (after,)


def test_time_decides_and_not_the_order_of_the_lines(rating) -> None:
    late = rating("a", minute=9, thumb="up")
    pulled = rating("b", minute=1, thumb="down")

    assert counting([late, pulled]) == (late,)


def test_of_one_moment_the_line_that_was_written_last_counts(rating) -> None:
    first, second = rating("a", thumb="up"), rating("b", thumb="down")

    assert counting([first, second]) == (second,)


@st.composite
def ratings(draw) -> Rating:
    other = draw(st.none() | st.sampled_from("xy"))
    return Rating(
        id="r",
        created_at=f"2026-11-25T00:00:{draw(st.integers(0, 3)):02}.000000Z",
        answer_id=draw(st.sampled_from("pq")),
        source="api",
        rater=draw(st.sampled_from(["ada", "bob"])),
        thumb=draw(st.sampled_from([None, "up", "down"])),
        scale=draw(st.none() | st.integers(1, 5)),
        comment=draw(st.none() | st.sampled_from(["", "hm"])),
        compared=None if other is None else Comparison(other_id=other, verdict="tie"),
        edited=draw(st.none() | st.just(Edit(content=""))),
        retracted=draw(st.booleans()),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(ratings(), max_size=8))
def test_what_counts_is_settled(given_ratings) -> None:
    counted = counting(given_ratings)

    assert counting(counted) == counted
    kinds = [(each.answer_id, each.rater) for each in counted if each.thumb is not None]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"since": "soon"}, "since"),
        ({"until": "2026-02-30"}, "until"),
    ],
)
def test_what_cannot_be_asked_is_named(asked, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Query(**asked)

    assert caught.value.param == param
