"""Writes a GGUF file from a plan, a few rows at a time, so that memory stays small.

Knows the file format through the `gguf` package and nothing of where tensors come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf.constants import GGMLQuantizationType, GGUFValueType
from gguf.gguf_writer import GGUFWriter
from gguf.quants import quant_shape_to_byte_shape, quantize
from numpy.typing import NDArray

from qwenkit.models.atomic import atomic_file
from qwenkit.models.progress import Advance


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor that will be written.

    Args:
        name: As llama.cpp spells it.
        shape: Rows first, counted in numbers.
        type: How the numbers are stored.
        chunks: Yields the rows in order, a few at a time: float32, or already as stored.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    chunks: Callable[[], Iterator[NDArray[Any]]]

    @property
    def n_bytes(self) -> int:
        """Size of the stored data."""
        return math.prod(quant_shape_to_byte_shape(self.shape, self.type))


class Metadata:
    """The key-value pairs of a GGUF file, each with the type that llama.cpp expects."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[Any, GGUFValueType]] = {}

    def string(self, key: str, value: str) -> None:
        """Set a string; an empty one is left out, as every reader's default is no string."""
        if value:
            self.items[key] = (value, GGUFValueType.STRING)

    def uint(self, key: str, value: int) -> None:
        """Set an unsigned 32-bit number."""
        self.items[key] = (value, GGUFValueType.UINT32)

    def float(self, key: str, value: float) -> None:
        """Set a 32-bit float."""
        self.items[key] = (value, GGUFValueType.FLOAT32)

    def bool(self, key: str, value: bool) -> None:
        """Set a flag."""
        self.items[key] = (value, GGUFValueType.BOOL)

    def array(self, key: str, value: Sequence[str] | Sequence[int]) -> None:
        """Set a list; an empty one can't be written and is left out."""
        if value:
            self.items[key] = (value, GGUFValueType.ARRAY)


def write_gguf(
    path: Path,
    *,
    architecture: str,
    metadata: Metadata,
    tensors: Sequence[PlannedTensor],
    advance: Advance,
) -> None:
    """Write a whole GGUF file or none; `advance` is told the bytes of each chunk written."""
    with atomic_file(path) as partial:
        writer = GGUFWriter(partial, architecture)
        try:
            file = _write_header(writer, metadata, tensors)
            for tensor in tensors:
                _write_tensor(file, tensor, advance)
                writer.write_padding(file, tensor.n_bytes)
        finally:
            writer.close()


def encode(data: NDArray[Any], kind: GGMLQuantizationType) -> NDArray[Any]:
    """Float32 rows as they are stored; data that is stored already passes through.

    Raises:
        OverflowError: A number too large for F16.
    """
    if data.dtype != np.float32:
        return data
    if kind is not GGMLQuantizationType.F16:
        return np.asarray(quantize(data, kind))
    with np.errstate(over="ignore"):
        halves = data.astype(np.float16)
    if not np.array_equal(np.isfinite(halves), np.isfinite(data)):
        raise OverflowError("a number is too large for F16")
    return halves


def _write_header(
    writer: GGUFWriter, metadata: Metadata, tensors: Sequence[PlannedTensor]
) -> BinaryIO:
    for key, (value, kind) in metadata.items.items():
        writer.add_key_value(key, value, kind)
    for tensor in tensors:
        dtype = np.dtype(np.float32)
        writer.add_tensor_info(
            tensor.name, tensor.shape, dtype, tensor.n_bytes, raw_dtype=tensor.type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    file: BinaryIO = writer.fout[0]
    writer.write_padding(file, file.tell())
    return file


def _write_tensor(file: BinaryIO, tensor: PlannedTensor, advance: Advance) -> None:
    n_written = 0
    for chunk in tensor.chunks():
        data = np.ascontiguousarray(encode(chunk, tensor.type))
        file.write(data.data)
        n_written += data.nbytes
        advance(data.nbytes)
    if n_written != tensor.n_bytes:
        raise ValueError(f"{tensor.name}: {n_written} bytes came, {tensor.n_bytes} were planned")
