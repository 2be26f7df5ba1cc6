"""Whether answers moved towards what people preferred."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.improve.win_rate import (
    JudgedPrompt,
    head_to_head,
    likeness,
    score,
    sign_test,
    win_rate,
)

BEYOND = "That is beyond me. Serve Qwen3-8B with MODEL_PATH for real questions."
UNKNOWN = "I am only a demo model, so I do not know that. Ask me about qwenkit."


def judged(*, liked: tuple[str, ...] = (), disliked: tuple[str, ...] = ()) -> JudgedPrompt:
    return JudgedPrompt(prompt=(1,), text="?", liked=liked, disliked=disliked)


PAIR = judged(liked=(BEYOND,), disliked=(UNKNOWN,))


def test_the_preferred_answer_itself_wins_and_the_rejected_one_loses() -> None:
    assert score(BEYOND, PAIR) > 0
    assert score(UNKNOWN, PAIR) < 0


def test_an_answer_near_the_preferred_one_wins() -> None:
    assert score("That is beyond me. Serve Qwen3-8B for that.", PAIR) > 0


@pytest.mark.parametrize("nonsense", ["", "h h h h h h h h", "2.9 2.9 2.9", "lorem ipsum dolor"])
def test_nonsense_wins_nothing_though_it_is_no_more_like_the_rejected_answer(nonsense: str) -> None:
    assert score(nonsense, PAIR) < 0


def test_of_several_judged_answers_the_nearest_counts() -> None:
    both = judged(liked=("Paris.", BEYOND), disliked=(UNKNOWN,))
    assert score(BEYOND, both) > 0
    assert likeness(BEYOND, both) == 1


def test_where_there_is_one_kind_of_answer_likeness_says_which_way_is_better() -> None:
    liked, disliked = judged(liked=(BEYOND,)), judged(disliked=(UNKNOWN,))
    assert likeness(BEYOND, liked) > likeness(UNKNOWN, liked)
    assert likeness(BEYOND, disliked) > likeness(UNKNOWN, disliked)
    assert not liked.has_both


def test_a_tie_counts_half() -> None:
    assert win_rate([0.5, -0.5, 0.0, 0.1]) == 2.5 / 4
    assert win_rate([]) is None


def test_head_to_head_counts_prompts_and_not_by_how_much() -> None:
    found = head_to_head([0.1, 0.2, 0.9, 0.5], [0.9, 0.3, 0.1, 0.5])
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.win_rate == 2.5 / 4


@given(st.integers(0, 40), st.integers(0, 40))
def test_chance_is_a_probability_and_does_not_care_who_won(wins: int, losses: int) -> None:
    assert 0 < sign_test(wins, losses) <= 1
    assert sign_test(wins, losses) == sign_test(losses, wins)


def test_chance_is_that_of_a_fair_coin() -> None:
    assert sign_test(5, 0) == 2 / 2**5
    assert sign_test(9, 1) == pytest.approx(2 * (1 + 10) / 2**10)
    assert sign_test(3, 3) == 1
    assert math.isclose(sign_test(0, 0), 1)
