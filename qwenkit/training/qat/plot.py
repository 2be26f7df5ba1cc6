"""A report as files: numbers as JSON, and a picture of what quantising costs both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from qwenkit.models.atomic import atomic_file
from qwenkit.picture import picture
from qwenkit.training.qat.report import Part, QatReport

_NAMES: Final[dict[Part, str]] = {
    "base": "full precision",
    "trained": "full precision",
    "ptq": "quantised after training",
    "qat": "trained on the grid",
}
_INK = "#1f3a5f"
_SIZE_INCHES = (6.4, 3.2)


def write_report(report: QatReport, folder: Path) -> None:
    """Write `qat.json` and `qat.png` into a run's folder.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with atomic_file(folder / "qat.json") as partial:
        partial.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    plot_report(report, folder / "qat.png")


def plot_report(report: QatReport, target: Path) -> None:
    """Draw a report as a PNG.

    Args:
        report: What to draw.
        target: File to write; it appears whole or not at all.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with picture(target, size_inches=_SIZE_INCHES) as figure:
        _draw(figure.subplots(), report)
        base = report.row("base").perplexity
        figure.suptitle(
            f"{report.scheme} in {report.runtime}, {base.n_tokens:,} held-out tokens; "
            f"before training {base.value:.4g}",
            fontsize="medium",
        )


def _draw(axes: Any, report: QatReport) -> None:
    # The base is what nothing was taught to: beside it the others would all look alike.
    rows = [row for row in report.rows if row.part != "base" or not report.is_fair]
    values = [row.perplexity.value for row in rows]
    axes.hlines(range(len(rows)), min(values), values, color=_INK, alpha=0.25)
    axes.plot(values, range(len(rows)), "o", color=_INK)
    for place, row in enumerate(rows):
        axes.annotate(
            f"{row.perplexity.value:.5g} ({row.ratio - 1:+.2%})",
            (row.perplexity.value, place),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize="small",
            color=_INK,
        )
    axes.set_yticks(range(len(rows)), [_NAMES[row.part] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("perplexity, lower is better")
    axes.margins(x=0.2, y=0.3)
    axes.grid(axis="x", alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
