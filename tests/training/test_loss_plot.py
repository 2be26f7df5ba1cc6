"""The picture of a run."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from qwenkit.training.loss_plot import plot_loss, smoothed
from qwenkit.training.metrics import Record


def test_the_running_mean_of_a_constant_is_the_constant_from_the_first_value_on() -> None:
    assert smoothed([3.0] * 5, half_life=2) == pytest.approx([3.0] * 5)


def test_a_value_weighs_half_as_much_a_half_life_later() -> None:
    first, *_, last = smoothed([1.0, *[0.0] * 3], half_life=1)
    assert first == 1.0
    assert last == pytest.approx(0.125 / (1 + 0.5 + 0.25 + 0.125))


@pytest.mark.parity
@pytest.mark.parametrize("n_steps", [1, 12, 300])
def test_runs_of_any_length_are_drawn(n_steps: int, tmp_path: Path) -> None:
    records: list[Record] = [{"step": 0, "epoch": 0, "held_out_loss": 4.0}]
    for step in range(1, n_steps + 1):
        loss = 1 + math.exp(-step / 50)
        records.append({"step": step, "epoch": 1, "loss": loss, "learning_rate": 1e-4})
    plot_loss(records, tmp_path / "loss.png", title="a run")
    data = (tmp_path / "loss.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1000
    assert height > 500
