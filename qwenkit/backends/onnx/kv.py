"""The KV cache of a session: for every layer keys and values `[rows, heads, cells, head_dim]`.

A row is one sequence. Past and present of the graph are the same memory, so a step appends in
place. On a GPU the arrays live there, and rows can be computed with but not copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qwenkit.backends.onnx.runtime import onnxruntime
from qwenkit.errors import OutOfMemory


@dataclass(frozen=True, slots=True)
class KvShape:
    """The shape of a cache but for its rows and cells.

    Args:
        n_arrays: Twice the layers: a layer's keys, then its values.
        n_heads: Heads.
        head_dim: Numbers in a head.
        dtype: Number format.
    """

    n_arrays: int
    n_heads: int
    head_dim: int
    dtype: npt.DTypeLike

    def of(self, n_rows: int, n_cells: int) -> tuple[int, int, int, int]:
        """The shape of an array."""
        return n_rows, self.n_heads, n_cells, self.head_dim


class Kv(Protocol):
    """Memory that the graph reads and writes."""

    device: str
    n_cells: int

    def pointer(self, index: int, row: int) -> int:
        """Where a row of an array begins."""
        ...


class HostKv:
    """A cache in ordinary memory. Pages are taken from the system when they are first written.

    Raises:
        OutOfMemory: There is not even address space for it.
    """

    device = "cpu"

    def __init__(self, shape: KvShape, n_rows: int, n_cells: int) -> None:
        self.n_cells = n_cells
        self._shape = shape
        try:
            self._arrays = [
                np.zeros(shape.of(n_rows, n_cells), shape.dtype) for _ in range(shape.n_arrays)
            ]
        except MemoryError as exc:
            raise OutOfMemory(
                f"no KV cache of {n_rows} rows of {n_cells} tokens could be made",
                hint="set N_CTX or N_PARALLEL lower",
            ) from exc

    def pointer(self, index: int, row: int) -> int:
        """Where a row of an array begins."""
        array = self._arrays[index]
        return int(array.ctypes.data + row * array.strides[0])

    def copy(self, source: int, target: int, length: int) -> None:
        """Make a row begin with the first `length` tokens of another."""
        for array in self._arrays:
            array[target, :, :length] = array[source, :, :length]

    def swap(self, a: int, b: int, length_a: int, length_b: int) -> None:
        """Exchange two rows that hold so many tokens."""
        if length_a > length_b:
            a, b, length_a, length_b = b, a, length_b, length_a
        for array in self._arrays:
            kept = array[a, :, :length_a].copy()
            array[a, :, :length_b] = array[b, :, :length_b]
            array[b, :, :length_a] = kept

    def save(self, row: int, length: int) -> bytes:
        """The first `length` tokens of a row."""
        return b"".join(head[:length].data for array in self._arrays for head in array[row])

    def load(self, row: int, state: bytes) -> int:
        """Write what `save` gave into a row; returns how many tokens that is."""
        numbers = np.frombuffer(state, self._shape.dtype)
        parts = numbers.reshape(len(self._arrays), self._shape.n_heads, -1, self._shape.head_dim)
        length = int(parts.shape[2])
        for array, part in zip(self._arrays, parts, strict=True):
            array[row, :, :length] = part
        return length


class DeviceKv:
    """A cache in a GPU's memory.

    Raises:
        OutOfMemory: It doesn't fit.
    """

    def __init__(self, shape: KvShape, n_rows: int, n_cells: int, *, device: str) -> None:
        self.device = device
        self.n_cells = n_cells
        self._row_bytes = shape.n_heads * n_cells * shape.head_dim * np.dtype(shape.dtype).itemsize
        try:
            self._values = [self._allocated(shape, n_rows) for _ in range(shape.n_arrays)]
        except RuntimeError as exc:
            raise OutOfMemory(
                f"no KV cache of {n_rows} rows of {n_cells} tokens fits the GPU: {exc}",
                hint="set N_CTX or N_PARALLEL lower",
            ) from exc

    def _allocated(self, shape: KvShape, n_rows: int) -> Any:
        value_type = onnxruntime().OrtValue
        return value_type.ortvalue_from_shape_and_type(
            shape.of(n_rows, self.n_cells), shape.dtype, self.device, 0
        )

    def pointer(self, index: int, row: int) -> int:
        """Where a row of an array begins."""
        return int(self._values[index].data_ptr()) + row * self._row_bytes
