"""Compares what two files do to each matrix, number by number, in 64-bit floats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qwenkit.adapters.base import BaseShapes
from qwenkit.adapters.lora import Float64, Lora, LoraPair
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import AdapterUnsupported, ModelCorrupt

# Of the largest change of a matrix: what rounding B once can cost.
TOLERANCES = {"float32": 1e-5, "float16": 5e-3}
# A few rows at a time stay in the processor's cache: several times faster than many.
_ROWS = 32


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a written file is from what it should hold.

    Args:
        n_matrices: Matrices that were compared.
        max_abs: The largest difference of two numbers.
        max_rel: The same, as a share of the largest number in its matrix.
        worst: The matrix with the largest share; empty when nothing differs.
        tolerance: The share that rounding may cost.
    """

    n_matrices: int
    max_abs: float
    max_rel: float
    worst: str
    tolerance: float


class Comparison:
    """Gathers the differences of one file."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._n_matrices = 0
        self._max_abs = 0.0
        self._max_rel = 0.0
        self._worst = ""

    def add(self, name: str, found: Iterator[Float64], wanted: Iterator[Float64]) -> None:
        """Compare a matrix, given as rows, a few at a time; NaN is infinitely far off."""
        largest = difference = np.float64(0)
        for ours, theirs in zip(found, wanted, strict=True):
            largest = np.maximum(largest, np.abs(theirs).max())
            difference = np.maximum(difference, np.abs(ours - theirs).max())
        self._count(name, float(np.nan_to_num(difference, nan=np.inf)), float(largest))

    def add_same(self, name: str) -> None:
        """Count a matrix that is known to be the same."""
        self._count(name, 0.0, 1.0)

    def _count(self, name: str, difference: float, largest: float) -> None:
        share = difference / largest if largest else difference
        self._n_matrices += 1
        self._max_abs = max(self._max_abs, difference)
        if share > self._max_rel:
            self._max_rel, self._worst = share, name

    def result(self, path: Path) -> Difference:
        """What was found.

        Raises:
            AdapterUnsupported: More differs than rounding explains.
        """
        found = Difference(
            self._n_matrices, self._max_abs, self._max_rel, self._worst, self._tolerance
        )
        if not self._max_rel <= self._tolerance:
            raise AdapterUnsupported(
                f"`{path}` is off by {found.max_rel:.1e} of the largest number in "
                f"`{found.worst}`; rounding explains {found.tolerance:.0e}",
                hint="use a number format with more digits",
            )
        return found


def check_adapter(written: Path, source: Lora, base: BaseShapes | None = None) -> Difference:
    """Read an adapter's file back and compare its `scale · B · A` with its source's.

    Args:
        written: The converted file.
        source: What it was made from.
        base: The model it was made for, as `read_adapter` takes it.

    Raises:
        ModelCorrupt: It can't be read back, or changes other matrices.
        AdapterUnsupported: More differs than rounding explains.
    """
    ours = {pair.module: pair for pair in read_adapter(written, base).pairs}
    theirs = {pair.module: pair for pair in source.pairs}
    if ours.keys() != theirs.keys():
        raise ModelCorrupt(f"`{written}` changes other matrices than `{source.source}`")
    kind = base.io_dtype if base is not None else "float32"
    comparison = Comparison(TOLERANCES[kind])
    for module, pair in theirs.items():
        if _same(ours[module], pair):
            comparison.add_same(module)
        else:
            comparison.add(module, delta_rows(ours[module]), delta_rows(pair))
    return comparison.result(written)


def _same(one: LoraPair, other: LoraPair) -> bool:
    return (
        one.scale == other.scale
        and np.array_equal(one.a, other.a)
        and np.array_equal(one.b, other.b)
    )


def delta_rows(pair: LoraPair) -> Iterator[Float64]:
    """What a pair adds to its matrix, a few rows at a time."""
    a = pair.a.astype(np.float64) * pair.scale
    for start in range(0, pair.shape[0], _ROWS):
        yield pair.b[start : start + _ROWS].astype(np.float64) @ a
