"""The learning rate over a run."""

from __future__ import annotations

from typing import get_args

import pytest

from qwenkit.training.native.schedule import Schedule, Shape


@pytest.mark.parametrize("shape", get_args(Shape))
@pytest.mark.parametrize("n_warmup", [0, 1, 5])
def test_it_rises_to_its_peak_and_never_reaches_zero(shape: Shape, n_warmup: int) -> None:
    schedule = Schedule(peak=2.0, n_steps=20, n_warmup=n_warmup, shape=shape)
    rates = [schedule.at(step) for step in range(20)]
    assert all(0 < rate <= 2 for rate in rates)
    assert rates[:n_warmup] == sorted(rates[:n_warmup])
    assert rates[n_warmup] == 2
    assert rates[n_warmup:] == sorted(rates[n_warmup:], reverse=True)
    assert (rates[-1] == 2) == (shape == "constant")
