"""What a run measured, a line of JSON for each time: appended, read, and cut back to a step.

A line has `step`, `epoch`, and what was measured then: `loss`, `learning_rate`, `grad_norm`,
`n_tokens`, `tokens_per_s`, and what the method adds; or what an evaluation found of held-out data,
each name with `held_out_` before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from qwenkit.models.atomic import atomic_file

Record: TypeAlias = dict[str, float | int]

HELD_OUT = "held_out_"


class MetricsLog:
    """Appends lines to a file; each is on its way to the disk when `add` returns.

    Args:
        path: The file; made when it isn't there.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def add(self, record: Mapping[str, float | int]) -> None:
        """Append a line."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[Record]:
    """All whole lines; none where there is no file. A killed process may have left half a line."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def cut_back(path: Path, *, step: int) -> None:
    """Forget what was measured after a step."""
    _write(path, [record for record in read_metrics(path) if record["step"] <= step])


def cut_last_look(path: Path) -> None:
    """Forget what a run whose end comes again found of held-out data at its end."""
    records = read_metrics(path)
    last = max((record["step"] for record in records), default=0)
    _write(path, [each for each in records if each["step"] < last or "loss" in each])


def _write(path: Path, records: Sequence[Record]) -> None:
    with atomic_file(path) as partial:
        partial.write_text(
            "".join(json.dumps(record) + "\n" for record in records), encoding="utf-8"
        )
