"""Whether a new adapter takes the place of the current one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qwenkit.improve.decide import decide
from qwenkit.improve.measure import Measures
from qwenkit.improve.options import ImproveOptions
from qwenkit.improve.win_rate import HeadToHead, head_to_head

BEFORE = Measures(
    n_pairs=20,
    accuracy=0.5,
    accuracy_per_token=0.5,
    margin=0.1,
    separation=None,
    perplexity=2.0,
    n_prompts=20,
    n_contested=20,
    win_rate=0.3,
    kept=0.9,
    cut_off=0.0,
    mean_tokens=20.0,
)
EVEN = head_to_head([0.5] * 20, [0.5] * 20)
AHEAD = head_to_head([0.1] * 20, [0.5] * 20)
BEHIND = head_to_head([0.5] * 20, [0.1] * 20)


def is_better(heads: HeadToHead = EVEN, **after: Any) -> bool:
    return decide(BEFORE, replace(BEFORE, **after), heads, ImproveOptions()).is_better


@pytest.mark.parametrize("rise", [{"accuracy": 0.6}, {"win_rate": 0.4}])
def test_one_measure_that_rises_is_enough(rise: dict[str, Any]) -> None:
    assert is_better(**rise)
    assert is_better(AHEAD, **rise)


def test_winning_head_to_head_is_enough() -> None:
    assert is_better(AHEAD)


def test_the_same_is_not_better() -> None:
    assert not is_better()


def test_less_than_the_gain_that_was_asked_for_is_not_better() -> None:
    assert not is_better(accuracy=0.51)
    after = replace(BEFORE, accuracy=0.51)
    assert decide(BEFORE, after, EVEN, ImproveOptions(min_gain=0.005)).is_better


@pytest.mark.parametrize(
    "fall", [{"accuracy": 0.45}, {"win_rate": 0.25}, {"cut_off": 0.06}, {"kept": 0.8}]
)
def test_nothing_may_fall_whatever_else_rises(fall: dict[str, Any]) -> None:
    assert not is_better(AHEAD, **{"accuracy": 0.9, "win_rate": 0.9} | fall)


def test_losing_head_to_head_is_not_made_up_for() -> None:
    assert not is_better(BEHIND, accuracy=0.9, win_rate=0.9)


def test_what_is_not_a_number_is_not_better() -> None:
    assert not is_better(AHEAD, accuracy=float("nan"))
    assert not is_better(AHEAD, win_rate=0.9, margin=float("nan"))


def test_the_reasons_name_the_measures_with_their_numbers() -> None:
    worse = decide(BEFORE, replace(BEFORE, win_rate=0.2), AHEAD, ImproveOptions())
    assert len(worse.reasons) == 1
    assert "30.0% to 20.0%" in worse.reasons[0]


def test_what_chance_may_have_done_is_said() -> None:
    rise = replace(BEFORE, accuracy=0.9)
    (caution,) = decide(BEFORE, rise, head_to_head([0.1] * 3, [0.5] * 3), ImproveOptions()).cautions
    assert "25%" in caution
    assert decide(BEFORE, rise, AHEAD, ImproveOptions()).cautions == ()
