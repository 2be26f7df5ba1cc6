"""LoRA adapters as an ONNX graph takes them: inputs by name, B times the scale."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qwenkit.adapters.base import BaseShapes
from qwenkit.adapters.onnx_adapter import read_parameters
from qwenkit.backends.base import LoadedAdapter
from qwenkit.errors import ModelCorrupt

Matrices: TypeAlias = dict[str, npt.NDArray[Any]]

# Scales that an adapter's copies are kept for.
MAX_SCALES = 4


class OnnxAdapter(LoadedAdapter):
    """An adapter's matrices.

    Args:
        matrices: By the name of the graph's input.
        scaled: Names of those that carry the scale: every B.
    """

    def __init__(self, matrices: Matrices, scaled: Iterable[str]) -> None:
        self._matrices = matrices
        self._scaled = frozenset(scaled) & matrices.keys()
        self._copies: OrderedDict[float, Matrices] = OrderedDict()

    def at(self, scale: float) -> Matrices:
        """The inputs at a scale; what it doesn't change is shared by all of them."""
        if scale == 1.0:
            return self._matrices
        if scale not in self._copies:
            changed = {
                n: self._matrices[n] * self._matrices[n].dtype.type(scale) for n in self._scaled
            }
            self._copies[scale] = self._matrices | changed
            if len(self._copies) > MAX_SCALES:
                self._copies.popitem(last=False)
        self._copies.move_to_end(scale)
        return self._copies[scale]


def load_adapter(path: Path, base: BaseShapes | None) -> OnnxAdapter:
    """Read an `.onnx_adapter` and check it against the graph's slots; None where it has none.

    Raises:
        ModelCorrupt: It is damaged, or doesn't fit the model.
        AdapterUnsupported: Another version of the format.
    """
    if base is None:
        raise ModelCorrupt(f"`{path}` is for another model: this one has no LoRA slots")
    # Copies: in the file they lie where they come, at any address.
    matrices = {parameter.name: np.array(parameter.data) for parameter in read_parameters(path)}
    places = {slot.a: m for m, slot in base.slots.items()} | {
        slot.b: m for m, slot in base.slots.items()
    }
    for name in matrices:
        if name not in places:
            raise ModelCorrupt(f"`{path}` is for another model: it has no input `{name}`")
        _check(path, matrices, places[name], base)
    return OnnxAdapter(matrices, (slot.b for slot in base.slots.values()))


def _check(path: Path, matrices: Matrices, module: str, base: BaseShapes) -> None:
    slot, (n_out, n_in) = base.slots[module], base.layers[module]
    a, b = matrices.get(slot.a), matrices.get(slot.b)
    if a is None or b is None:
        raise ModelCorrupt(f"`{path}` has half of `{module}`")
    rank = a.shape[-1]
    if a.shape != (n_in, rank) or b.shape != (rank, n_out):
        raise ModelCorrupt(
            f"`{path}` is for another model: `{module}` is [{n_out}, {n_in}] here, "
            f"its A is {list(a.shape)} and its B {list(b.shape)}"
        )
    if str(a.dtype) != base.io_dtype or str(b.dtype) != base.io_dtype:
        raise ModelCorrupt(f"`{path}` is of {a.dtype}, the model takes {base.io_dtype}")
