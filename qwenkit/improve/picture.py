"""Draws what a round changed: its measures before and after, and what other rounds won."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenkit.improve.measure import Measures
from qwenkit.improve.request import Evaluated, ImproveReport
from qwenkit.picture import picture

_BEFORE, _AFTER, _REFUSED = "#7a8794", "#1f3a5f", "#c8553d"
_SIZE_INCHES = (9.6, 4.2)


def draw_improvement(
    report: ImproveReport, earlier: Sequence[Mapping[str, Any]], target: Path
) -> None:
    """Draw a round as a PNG.

    Args:
        report: Of the round, which measured something.
        earlier: The lineage's entries of the rounds before it.
        target: File to write; it appears whole or not at all.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    if report.evaluation is None:
        raise ValueError("the round measured nothing")
    with picture(target, size_inches=_SIZE_INCHES) as figure:
        measures, rounds = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_measures(measures, report.evaluation)
        _draw_rounds(rounds, report, earlier)
        verdict = "better" if report.outcome == "improved" else "not better"
        title = (
            f"{report.name}, round {report.round}: {report.ratings.n_ratings:,} ratings, "
            f"{report.check.method}; {verdict}"
        )
        figure.suptitle(title, fontsize="medium", x=0.01, ha="left")


def shares(evaluation: Evaluated) -> list[tuple[str, float, float]]:
    """The measures that are shares, with what they were before and are after."""
    before, after = evaluation.before, evaluation.after
    named = [
        (f"held-out prompts won ({before.n_contested})", "win_rate"),
        (f"preferred answer likelier ({before.n_pairs} pairs)", "accuracy"),
        ("the same per token", "accuracy_per_token"),
        ("liked raised above disliked", "separation"),
        ("like answers that were liked", "kept"),
        ("answers without an end", "cut_off"),
    ]
    found = [(label, _value(before, name), _value(after, name)) for label, name in named]
    return [(label, old, new) for label, old, new in found if old is not None and new is not None]


def _value(measures: Measures, name: str) -> float | None:
    value: float | None = getattr(measures, name)
    return value


def _draw_measures(axes: Any, evaluation: Evaluated) -> None:
    rows = shares(evaluation)
    for place, (_, old, new) in enumerate(rows):
        axes.plot((old, new), (place, place), color=_AFTER, alpha=0.35, linewidth=2, zorder=1)
        axes.annotate(
            f"{old:.0%} → {new:.0%}", (1.04, place), va="center", annotation_clip=False, size=8
        )
    places = range(len(rows))
    axes.scatter([row[1] for row in rows], places, color=_BEFORE, label="before", zorder=2)
    axes.scatter([row[2] for row in rows], places, color=_AFTER, label="after", zorder=3)
    axes.set_yticks(list(places), [row[0] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(-0.03, 1.25)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axes.legend(loc="lower right", frameon=False, ncols=2, bbox_to_anchor=(1, 1))
    _finish(axes)


def _draw_rounds(axes: Any, report: ImproveReport, earlier: Sequence[Mapping[str, Any]]) -> None:
    points: list[tuple[int, float | None, str]] = [
        (entry["round"], _won(entry["evaluation"]), entry["outcome"])
        for entry in earlier
        if entry["evaluation"] is not None
    ]
    if report.evaluation is not None and report.round is not None:
        heads = report.evaluation.head_to_head
        points.append((report.round, heads.win_rate, report.outcome))
    for is_better, colour, label in (
        (True, _AFTER, "better, kept"),
        (False, _REFUSED, "not better, left"),
    ):
        some = [(at, won) for at, won, what in points if (what == "improved") is is_better]
        if some:
            axes.scatter(*zip(*some, strict=True), color=colour, label=label, zorder=2)
    axes.axhline(0.5, color=_BEFORE, linewidth=1, linestyle="--", zorder=1)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("won against the adapter before")
    axes.set_xlabel("round")
    axes.set_xlim(0.5, max(at for at, _, _ in points) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="lower right", frameon=False)
    _finish(axes)


def _won(evaluation: Mapping[str, Any]) -> float | None:
    won: float | None = evaluation["head_to_head"]["win_rate"]
    return won


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.margins(x=0.1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
