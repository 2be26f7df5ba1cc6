"""Writes a safetensors file from a plan, a few rows at a time, so that memory stays small.

Knows the file format and nothing of where tensors come from.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType
from numpy.typing import NDArray

from qwenkit.models.checkpoint import DTYPE_BITS
from qwenkit.models.gguf_file import encode
from qwenkit.models.progress import Advance

_ALIGNMENT = 8
_KINDS = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}


@dataclass(frozen=True, slots=True)
class TensorToWrite:
    """A tensor that will be written.

    Args:
        name: As transformers spells it.
        dtype: As safetensors spells it, such as `BF16`.
        shape: Rows first.
        chunks: Yields the rows in order, a few at a time, as they are stored.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[NDArray[Any]]]

    @property
    def n_bytes(self) -> int:
        """Size of the stored data."""
        return math.prod(self.shape) * DTYPE_BITS[self.dtype] // 8


def write_safetensors(path: Path, tensors: Sequence[TensorToWrite], advance: Advance) -> None:
    """Write one file; `advance` is told the bytes of each chunk written."""
    with path.open("wb") as file:
        file.write(_header(tensors))
        for tensor in tensors:
            n_written = 0
            for chunk in tensor.chunks():
                data = np.ascontiguousarray(chunk)
                file.write(data.data)
                n_written += data.nbytes
                advance(data.nbytes)
            if n_written != tensor.n_bytes:
                raise ValueError(
                    f"{tensor.name}: {n_written} bytes came, {tensor.n_bytes} were planned"
                )


def encode_as(rows: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Float32 rows as they are stored in F32, F16 or BF16, rounded to the nearest.

    Raises:
        OverflowError: A number too large for F16.
    """
    return encode(rows, _KINDS[dtype])


def _header(tensors: Sequence[TensorToWrite]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.n_bytes
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
