"""Draws a run's metrics: the loss in training and on held-out data, and the learning rate below.

Single steps are faint and their running mean is plain, since what a batch happens to hold moves the
loss more than learning does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwenkit.picture import picture
from qwenkit.training.metrics import HELD_OUT, Record

_TRAIN, _HELD_OUT, _RATE = "#1f3a5f", "#c8553d", "#7a8794"
_SIZE_INCHES = (8.4, 5.2)
_HALF_LIVES = 60
"""So many times the running mean forgets half within a run."""


def plot_loss(records: Sequence[Record], target: Path, *, title: str) -> None:
    """Draw what a run measured as a PNG.

    Args:
        records: Lines of metrics, at least one with a loss.
        target: File to write; it appears whole or not at all.
        title: What stands above.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with picture(target, size_inches=_SIZE_INCHES) as figure:
        loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _draw_loss(loss, records)
        _draw_rate(rate, records)
        figure.suptitle(title, fontsize="medium", x=0.01, ha="left")


def smoothed(values: Sequence[float], *, half_life: float) -> list[float]:
    """Running mean of values, in which a value weighs half as much `half_life` values later.

    The first values weigh no more than any: the mean is over what has come so far.
    """
    keep = 0.5 ** (1 / half_life)
    total = weight = 0.0
    found = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        found.append(total / weight)
    return found


def _draw_loss(axes: Any, records: Sequence[Record]) -> None:
    steps, losses = _series(records, "loss")
    mean = smoothed(losses, half_life=max(1.0, len(losses) / _HALF_LIVES))
    if len(losses) > _HALF_LIVES:
        axes.plot(steps, losses, color=_TRAIN, alpha=0.3, linewidth=1)
    else:
        mean = losses
    axes.plot(steps, mean, color=_TRAIN, linewidth=1.8, label=f"training: {mean[-1]:.3g}")
    steps, held_out = _series(records, f"{HELD_OUT}loss")
    if steps:
        label = f"held out: {held_out[0]:.3g} → {held_out[-1]:.3g}"
        axes.plot(
            steps, held_out, color=_HELD_OUT, marker="o", markersize=4, linewidth=1.5, label=label
        )
    axes.set_ylabel("loss")
    axes.legend(loc="upper right", frameon=False)
    _finish(axes)


def _draw_rate(axes: Any, records: Sequence[Record]) -> None:
    axes.plot(*_series(records, "learning_rate"), color=_RATE, linewidth=1.5)
    axes.set_ylabel("learning rate")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    _finish(axes)


def _series(records: Sequence[Record], name: str) -> tuple[list[float], list[float]]:
    found = [(record["step"], record[name]) for record in records if name in record]
    return [step for step, _ in found], [value for _, value in found]


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.margins(x=0.02)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
