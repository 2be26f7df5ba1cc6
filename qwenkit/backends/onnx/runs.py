"""How the rows of a decode fall into runs: by slot, and by whether logits are wanted. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qwenkit.backends.base import Rows
from qwenkit.backends.onnx.outputs import UNWANTED

# Rows before the wanted ones run without handing out logits when there are so many (onnxruntime
# computes them all the same); fewer are not worth a run of their own.
_WORTH_A_RUN = 8


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of one slot, from `first` up to before `last`, and whether to compute their logits."""

    first: int
    last: int
    logits: bool

    @property
    def n(self) -> int:
        """How many rows."""
        return self.last - self.first


def slot_bounds(rows: Rows) -> Iterator[tuple[int, int]]:
    """Where each slot's rows begin and end."""
    changes = np.flatnonzero(np.diff(rows.slots)) + 1
    return itertools.pairwise([0, *changes.tolist(), len(rows.slots)])


def cut_runs(rows: Rows) -> Iterator[Run]:
    """Cut every slot's rows where logits begin to be wanted."""
    for first, last in slot_bounds(rows):
        wanted = np.flatnonzero(rows.wants_logits[first:last])
        n_quiet = int(wanted[0]) if len(wanted) else last - first
        if len(wanted) and n_quiet < _WORTH_A_RUN:
            n_quiet = 0
        if n_quiet:
            yield Run(first, first + n_quiet, logits=False)
        if first + n_quiet < last:
            yield Run(first + n_quiet, last, logits=True)


def places_of(rows: Rows) -> list[int]:
    """The place of each row among the wanted ones; `UNWANTED` for the others."""
    wanted = rows.wants_logits != 0
    return [int(place) for place in np.where(wanted, np.cumsum(wanted) - 1, UNWANTED)]
