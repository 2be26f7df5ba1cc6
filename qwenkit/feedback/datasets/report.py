"""What an export made: rows by split and origin, and what was left out and why. Knows no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qwenkit.feedback.datasets.options import SPLITS


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export made.

    Args:
        format: What the rows are for.
        rows: Rows by split, and within it by origin.
        left_out: What became no row, counted by reason.
        n_answers: Answers that were looked at.
        n_prompts: Different prompts among them.
        files: Names of the files, relative to the target; the target's own name if it is a file.
    """

    format: str
    rows: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, int]
    n_answers: int
    n_prompts: int
    files: tuple[str, ...] = ()

    @property
    def n_rows(self) -> int:
        """Rows of all splits."""
        return sum(self.by_split.values())

    @property
    def by_split(self) -> dict[str, int]:
        """Rows of each split."""
        return {split: sum(origins.values()) for split, origins in self.rows.items()}

    @property
    def by_origin(self) -> dict[str, int]:
        """Rows of each origin, over all splits."""
        total: Counter[str] = Counter()
        for origins in self.rows.values():
            total.update(origins)
        return dict(sorted(total.items()))

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "format": self.format,
            "n_rows": self.n_rows,
            "by_split": self.by_split,
            "by_origin": self.by_origin,
            "rows": {split: dict(origins) for split, origins in self.rows.items()},
            "left_out": dict(self.left_out),
            "n_answers": self.n_answers,
            "n_prompts": self.n_prompts,
            "files": list(self.files),
        }


@dataclass(slots=True)
class Tally:
    """The counts of an export that still runs."""

    rows: dict[str, Counter[str]] = field(
        default_factory=lambda: {split: Counter() for split in SPLITS}
    )
    left_out: Counter[str] = field(default_factory=Counter)
    n_answers: int = 0
    n_prompts: int = 0

    def leave_out(self, reason: str, n: int = 1) -> None:
        """Count something that becomes no row."""
        if n:
            self.left_out[reason] += n

    def report(self, format: str, files: tuple[str, ...] = ()) -> ExportReport:  # noqa: A002
        """What it comes to."""
        return ExportReport(
            format=format,
            rows={split: dict(sorted(counts.items())) for split, counts in self.rows.items()},
            left_out=dict(sorted((+self.left_out).items(), key=lambda each: (-each[1], each[0]))),
            n_answers=self.n_answers,
            n_prompts=self.n_prompts,
            files=files,
        )
