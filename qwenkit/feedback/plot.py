"""Draws what people thought: ratings by day, agreement over time, win rates by adapter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from qwenkit.extras import import_extra
from qwenkit.feedback.stats import Day, FeedbackStats, Maker, Standing
from qwenkit.picture import picture

_INK, _WARM, _PALE = "#1f3a5f", "#b5532a", "#9aa7b5"
_SIZE_INCHES = (12.0, 4.0)
_MOST_MAKERS = 12
_MOST_TICKS = 6


def plot_stats(stats: FeedbackStats, target: Path) -> None:
    """Draw them as a PNG.

    Args:
        stats: What was counted.
        target: File to write; it appears whole or not at all.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with picture(target, size_inches=_SIZE_INCHES) as figure:
        ratings, agreement, wins = figure.subplots(1, 3)
        days = sorted(stats.days.items())
        _draw_ratings(ratings, days)
        _draw_agreement(agreement, [each for each in days if each[1].n_shared])
        _draw_wins(wins, [each for each in sorted(stats.adapters.items()) if _met(each[1])])
        figure.suptitle(
            f"{stats.n_ratings:,} ratings of {stats.n_rated:,} out of {stats.n_answers:,} answers",
            fontsize="medium",
        )


def _draw_ratings(axes: Any, days: Sequence[tuple[str, Day]]) -> None:
    judged = [each for each in days if each[1].n_up or each[1].n_down or each[1].n_compared]
    dates = _dates([name for name, _ in judged])
    base = [0] * len(judged)
    for label, colour, counts in (
        ("thumbs up", _INK, [day.n_up for _, day in judged]),
        ("thumbs down", _WARM, [day.n_down for _, day in judged]),
        ("comparisons", _PALE, [day.n_compared for _, day in judged]),
    ):
        axes.bar(dates, counts, bottom=base, color=colour, label=label)
        base = [below + count for below, count in zip(base, counts, strict=True)]
    axes.set_ylabel("judgements a day")
    if judged:
        axes.legend(frameon=False, fontsize="small")
    _finish(axes, judged, "no judgements")
    _finish_dates(axes, dates)


def _draw_agreement(axes: Any, days: Sequence[tuple[str, Day]]) -> None:
    dates = _dates([name for name, _ in days])
    axes.plot(dates, [100 * (day.agreement or 0.0) for _, day in days], marker="o", color=_INK)
    axes.set_ylim(0, 105)
    axes.set_ylabel("agreement between raters, %")
    _finish(axes, days, "nothing was judged by two raters")
    _finish_dates(axes, dates)


def _draw_wins(axes: Any, makers: Sequence[tuple[Maker, Standing]]) -> None:
    shown = makers[-_MOST_MAKERS:]
    names = [_name(maker) for maker, _ in shown]
    rates = [100 * (standing.win_rate or 0.0) for _, standing in shown]
    axes.barh(range(len(shown)), rates, color=_INK)
    axes.set_yticks(range(len(shown)), names, fontsize="small")
    axes.axvline(50, color=_PALE, linewidth=1)
    axes.set_xlim(0, 100)
    axes.set_xlabel("win rate on the same prompts, %")
    _finish(axes, shown, "no adapters' answers were compared")


def _met(standing: Standing) -> bool:
    return standing.win_rate is not None


def _name(maker: Maker) -> str:
    adapter = f"{maker.adapter} {maker.version}".strip() or "no adapter"
    return f"{maker.model}\n{adapter}"


def _dates(days: Sequence[str]) -> list[date]:
    return [date.fromisoformat(day) for day in days]


def _finish(axes: Any, shown: Sequence[object], without: str) -> None:
    if not shown:
        axes.text(
            0.5, 0.5, without, transform=axes.transAxes, ha="center", va="center", color=_PALE
        )
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _finish_dates(axes: Any, dates: Sequence[date]) -> None:
    if len(dates) <= _MOST_TICKS:
        axes.set_xticks(dates, [f"{each:%b %d}" for each in dates])
        return
    matplotlib = import_extra("matplotlib.dates", extra="plots")
    locator = matplotlib.AutoDateLocator(minticks=2, maxticks=_MOST_TICKS)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(matplotlib.ConciseDateFormatter(locator))
