"""How the rows of a decode fall into runs: by slot, and by whether logits are wanted. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qwenkit.backends.base import Rows
from qwenkit.backends.onnx.outputs import UNWANTED

# Where the graph makes logits of every row or of none, rows before the wanted ones run without when
# there are so many; fewer are not worth a run of their own.
_WORTH_A_RUN = 8


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of one slot, from `first` up to before `last`; no logits of the first `n_quiet`."""

    first: int
    last: int
    n_quiet: int

    @property
    def n(self) -> int:
        """How many rows."""
        return self.last - self.first

    @property
    def n_logits(self) -> int:
        """Rows whose logits are made."""
        return self.n - self.n_quiet


def slot_bounds(rows: Rows) -> Iterator[tuple[int, int]]:
    """Where each slot's rows begin and end."""
    changes = np.flatnonzero(np.diff(rows.slots)) + 1
    return itertools.pairwise([0, *changes.tolist(), len(rows.slots)])


def cut_runs(rows: Rows, *, head_skips: bool) -> Iterator[Run]:
    """Every slot's rows; cut where logits begin to be wanted if the head can't skip the others."""
    for first, last in slot_bounds(rows):
        wanted = np.flatnonzero(rows.wants_logits[first:last])
        n_quiet = int(wanted[0]) if len(wanted) else last - first
        if head_skips or n_quiet in (0, last - first):
            yield Run(first, last, n_quiet)
        elif n_quiet < _WORTH_A_RUN:
            yield Run(first, last, 0)
        else:
            yield Run(first, first + n_quiet, n_quiet)
            yield Run(first + n_quiet, last, 0)


def places_of(rows: Rows) -> list[int]:
    """The place of each row among the wanted ones; `UNWANTED` for the others."""
    wanted = rows.wants_logits != 0
    return [int(place) for place in np.where(wanted, np.cumsum(wanted) - 1, UNWANTED)]
