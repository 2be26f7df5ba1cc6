"""`qwenkit feedback stats`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli import console
from qwenkit.cli.feedback.log import Adapter, Model, Rater, Since, Thread, Until, open_index
from qwenkit.cli.flags import with_settings
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.feedback.stats import Day, FeedbackStats, Maker, Standing

_BAR_WIDTH = 30
_LAST_DAYS = 14


@with_settings("log_dir")
def stats(
    settings: Settings,
    *,
    since: Since = None,
    until: Until = None,
    from_model: Model = None,
    from_adapter: Adapter = None,
    rater: Rater = None,
    thread: Thread = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them as a PNG.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a plot that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count answers and ratings: by day, agreement between raters, win rates by adapter.

    A win rate is of answers to the same prompts, by comparisons and ratings.
    """
    from qwenkit.errors import UsageError
    from qwenkit.extras import import_extra
    from qwenkit.feedback.query import Query
    from qwenkit.feedback.stats import compute_stats

    if plot is not None:
        if plot.exists() and not force:
            raise UsageError(f"`{plot}` is there already", hint="replace it with --force")
        import_extra("matplotlib", extra="plots")
    query = Query(
        thread_id=thread,
        model=from_model,
        adapter=from_adapter,
        rater=rater,
        since=since,
        until=until,
    )
    with open_index(settings) as index:
        counted = compute_stats(index, query, console.progress)
    if plot is not None:
        _draw(counted, plot)
    if json:
        console.print_json(counted.as_json())
    else:
        _show(counted)


def _draw(counted: FeedbackStats, target: Path) -> None:
    from qwenkit.feedback.plot import plot_stats

    plot_stats(counted, target)


def _show(counted: FeedbackStats) -> None:
    totals = [
        ("answers", counted.n_answers),
        ("rated", counted.n_rated),
        ("ratings", counted.n_ratings),
        ("thumbs up", counted.n_up),
        ("thumbs down", counted.n_down),
        ("comparisons", counted.n_compared),
        ("edits", counted.n_edited),
    ]
    console.table("Counts", ["", ""], [(name, f"{n:,}") for name, n in totals])
    if counted.scale:
        _show_scale(counted)
    days = [each for each in sorted(counted.days.items()) if _is_judged(each[1])]
    if days:
        _show_days(days)
    if counted.adapters:
        _show_adapters(sorted(counted.adapters.items()))
    if len(counted.raters) > 1:
        raters = sorted(counted.raters.items(), key=lambda each: (-each[1], each[0]))
        console.table("Raters", ["Rater", "Ratings"], raters)


def _show_scale(counted: FeedbackStats) -> None:
    most = max(counted.scale.values())
    rows = [
        (point, counted.scale[point], "█" * round(_BAR_WIDTH * counted.scale[point] / most))
        for point in (5, 4, 3, 2, 1)
    ]
    console.table("Scale", ["Points", "Ratings", ""], rows)


def _is_judged(day: Day) -> bool:
    return bool(day.n_up or day.n_down or day.n_compared or day.n_shared)


def _show_days(days: list[tuple[str, Day]]) -> None:
    rows = [
        (name, day.n_answers, day.n_up, day.n_down, day.n_compared, _percent(day.agreement))
        for name, day in days[-_LAST_DAYS:]
    ]
    title = "Days" if len(days) <= _LAST_DAYS else f"The last {_LAST_DAYS} days with ratings"
    console.table(title, ["Day", "Answers", "Up", "Down", "Compared", "Raters agree"], rows)


def _show_adapters(adapters: list[tuple[Maker, Standing]]) -> None:
    rows = [
        (
            maker.model,
            f"{maker.adapter} {maker.version}".strip(),
            standing.n_answers,
            standing.n_up,
            standing.n_down,
            "" if standing.mean_scale is None else f"{standing.mean_scale:.2f}",
            standing.wins,
            standing.losses,
            standing.ties,
            _percent(standing.win_rate),
        )
        for maker, standing in adapters
    ]
    columns = ["Model", "Adapter", "Answers", "Up", "Down", "Scale", "Won", "Lost", "Tied"]
    console.table("Win rates on the same prompts", [*columns, "Win rate"], rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
