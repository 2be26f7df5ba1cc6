"""Rows of logits that several runs computed, in the order in which they were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qwenkit.backends.base import FloatArray

UNWANTED = -1


class Outputs:
    """Collects the rows of one decode; copies them only where it must.

    Args:
        n: How many are wanted.
        n_vocab: Numbers in each.
    """

    def __init__(self, n: int, n_vocab: int) -> None:
        self._n = n
        self._n_vocab = n_vocab
        self._blocks: list[tuple[npt.NDArray[Any], list[int]]] = []

    def add(self, block: npt.NDArray[Any], places: Sequence[int]) -> None:
        """Take the rows of `block`; each has its place among the wanted ones, or `UNWANTED`."""
        self._blocks.append((block, list(places)))

    def result(self) -> FloatArray:
        """float32 `[n, n_vocab]`, a view of the one block where that is in order."""
        if len(self._blocks) == 1:
            block, places = self._blocks[0]
            if places[: self._n] == list(range(self._n)):
                return block[: self._n].astype(np.float32, copy=False)
        rows = np.empty((self._n, self._n_vocab), np.float32)
        for block, places in self._blocks:
            kept = [index for index, place in enumerate(places) if place != UNWANTED]
            rows[[places[index] for index in kept]] = block[kept]
        return rows
