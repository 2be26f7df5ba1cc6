"""The picture of what people thought: a PNG of some size, whatever the numbers are."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenkit.feedback.plot import plot_stats
from qwenkit.feedback.stats import Day, FeedbackStats, Maker, Standing

pytestmark = pytest.mark.parity


def filled() -> FeedbackStats:
    stats = FeedbackStats(n_answers=10, n_rated=5, n_ratings=7)
    for n in range(1, 5):
        stats.days[f"2026-11-0{n}"] = Day(n_up=n, n_down=2, n_compared=1, n_shared=n, n_agreed=1)
    stats.adapters[Maker("demo")] = Standing(wins=1, losses=3)
    stats.adapters[Maker("demo", "new", "1")] = Standing(wins=3, losses=1)
    return stats


@pytest.mark.parametrize("stats", [FeedbackStats(), filled()], ids=["empty", "filled"])
def test_stats_become_a_png(stats: FeedbackStats, tmp_path: Path) -> None:
    target = tmp_path / "stats.png"
    plot_stats(stats, target)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert target.stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["stats.png"]
