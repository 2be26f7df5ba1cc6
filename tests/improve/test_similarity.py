"""How alike two answers are on the surface."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.improve.similarity import similarity

ANSWERS = st.text(alphabet="abc .", max_size=12)


@given(ANSWERS, ANSWERS)
def test_it_is_a_share_and_does_not_depend_on_the_order(one: str, other: str) -> None:
    assert 0 <= similarity(one, other) <= 1
    assert similarity(one, other) == pytest.approx(similarity(other, one))


@given(ANSWERS)
def test_an_answer_is_wholly_like_itself_whatever_its_spaces(text: str) -> None:
    assert similarity(text, f"  {text.replace(' ', '   ')}\n") == 1


def test_what_shares_no_letter_is_not_alike_at_all() -> None:
    assert similarity("aaa", "bbb") == 0
    assert similarity("", "b") == 0


def test_it_is_the_mean_over_runs_of_one_to_six_letters() -> None:
    # "abc" and "abd": 2 of 3 letters, 1 of 2 twos, 0 of 1 threes, both ways.
    assert similarity("abc", "abd") == pytest.approx((2 / 3 + 1 / 2) / 3)


def test_more_of_the_same_words_is_more_alike() -> None:
    answer = "Honey, and wax too."
    assert similarity("Honey and wax.", answer) > similarity("Honey.", answer)
    assert similarity("Honey.", answer) > similarity("I do not know.", answer)
