"""The files of a log: a day each, and more than one where they grow large. Knows their names.

`2026-11-25.jsonl`, then `2026-11-25.1.jsonl`, `2026-11-25.2.jsonl`, … of one day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.([1-9]\d{0,8}))?\.jsonl")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A file of the log; sorts in the order they are written in.

    Args:
        day: In UTC.
        number: Among the day's, from 0.
        folder: The log's.
    """

    day: date
    number: int
    folder: Path

    @property
    def path(self) -> Path:
        """Where it is."""
        number = f".{self.number}" if self.number else ""
        return self.folder / f"{self.day.isoformat()}{number}.jsonl"

    @property
    def next(self) -> Segment:
        """The one of the same day that follows."""
        return Segment(self.day, self.number + 1, self.folder)


def segments(folder: Path) -> list[Segment]:
    """The files of a log, in order; none where there is no folder."""
    found = (_segment(path) for path in folder.glob("*.jsonl"))
    return sorted(each for each in found if each is not None)


def _segment(path: Path) -> Segment | None:
    name = _NAME.fullmatch(path.name)
    if name is None:
        return None
    try:
        return Segment(date.fromisoformat(name[1]), int(name[2] or 0), path.parent)
    except ValueError:
        return None
