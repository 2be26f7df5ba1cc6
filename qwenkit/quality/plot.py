"""Draws what quantising cost: divergence and agreement over the bits that a weight takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwenkit.picture import picture
from qwenkit.quality.measure import Quality

_INK = "#1f3a5f"
_SIZE_INCHES = (9.6, 4.4)


def plot_quality(qualities: Sequence[Quality], target: Path, *, labels: Sequence[str]) -> None:
    """Draw a comparison as a PNG.

    Args:
        qualities: As `compare` returns them: the reference first.
        target: File to write; it appears whole or not at all.
        labels: What each model is called, in the same order.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with picture(target, size_inches=_SIZE_INCHES) as figure:
        divergence, agreement = figure.subplots(1, 2, sharex=True)
        models = list(zip(qualities, labels, strict=True))[1:]
        models.sort(key=lambda each: each[0].bits_per_weight)
        _draw_divergence(divergence, models)
        _draw_agreement(agreement, models)
        reference = qualities[0]
        figure.suptitle(
            f"Compared with {labels[0]} ({reference.bits_per_weight:.3g} bits a weight), "
            f"{reference.perplexity.n_tokens:,} tokens",
            fontsize="medium",
        )


def _draw_divergence(axes: Any, models: Sequence[tuple[Quality, str]]) -> None:
    for number, (quality, label) in enumerate(models):
        mean, p99 = quality.divergence.mean, quality.divergence.p99
        bits = quality.bits_per_weight
        axes.plot([bits, bits], [mean, p99], color=_INK, alpha=0.25, linewidth=1)
        axes.plot(bits, p99, marker="_", color=_INK, alpha=0.5)
        axes.plot(bits, mean, marker="o", color=_INK)
        _name(axes, label, (bits, mean), number, falling=True)
    if any(quality.divergence.mean > 0 for quality, _ in models):
        axes.set_yscale("log")
    axes.set_ylabel("KL divergence, nats (mean, and 99 % of positions)")
    _finish(axes)


def _draw_agreement(axes: Any, models: Sequence[tuple[Quality, str]]) -> None:
    for number, (quality, label) in enumerate(models):
        point = (quality.bits_per_weight, 100 * quality.agreement)
        axes.plot(*point, marker="o", color=_INK)
        _name(axes, label, point, number, falling=False)
    axes.set_ylabel("same likeliest token, %")
    _finish(axes)


def _name(axes: Any, label: str, point: tuple[float, float], number: int, *, falling: bool) -> None:
    """Write a point's name beside the curve that the points make, by turns on either side of it."""
    side = 1 if number % 2 == 0 else -1
    above = side if falling else -side
    axes.annotate(
        label,
        point,
        xytext=(6 * side, 3 * above),
        textcoords="offset points",
        horizontalalignment="left" if side > 0 else "right",
        verticalalignment="bottom" if above > 0 else "top",
        fontsize="small",
        color=_INK,
    )


def _finish(axes: Any) -> None:
    axes.set_xlabel("bits a weight")
    axes.margins(x=0.18, y=0.12)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
