"""The slope that a soak is judged by."""

from __future__ import annotations

import random

import pytest

from .curve import floor, slope_per_min


def test_what_comes_and_goes_does_not_move_the_slope_of_the_floor() -> None:
    dice = random.Random(0)
    points = [(float(at), 200 + at / 30 + (60 if dice.random() < 0.5 else 0)) for at in range(600)]
    assert slope_per_min(floor(points, 30)) == pytest.approx(2, abs=0.2)


def test_a_flat_floor_with_a_step_in_its_last_window_is_flat() -> None:
    points = [(float(at), 300.0 if at > 570 else 200.0) for at in range(600)]
    assert slope_per_min(floor(points, 30)) == 0


def test_one_point_has_no_slope() -> None:
    assert slope_per_min([(0.0, 5.0)]) == 0
