"""Importance matrices: how strongly each column of a matrix is used, in llama.cpp's GGUF form.

For each matrix the sum of squares of what is multiplied with each of its columns, and how many rows
were summed up. Files are interchangeable with `llama-imatrix` (tools/imatrix/imatrix.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from gguf.constants import GGMLQuantizationType
from numpy.typing import NDArray

from qwenkit.errors import ModelCorrupt, ModelUnsupported
from qwenkit.models.gguf_file import Metadata, PlannedTensor, write_gguf
from qwenkit.models.gguf_header import MAGIC, GgufHeader, GgufTensor, read_header

Floats: TypeAlias = NDArray[np.float32]

KIND = "imatrix"
_DATASETS = "imatrix.datasets"
_N_CHUNKS = "imatrix.chunk_count"
_CHUNK_SIZE = "imatrix.chunk_size"
_SUMS = ".in_sum2"
_COUNTS = ".counts"


@dataclass(frozen=True, slots=True)
class Usage:
    """How the columns of one matrix were used; of several stacked ones where it holds experts.

    Args:
        sums: `[n_matrices, n_columns]`: sums of squares.
        counts: `[n_matrices]`: rows that were summed up.
    """

    sums: Floats
    counts: Floats

    @property
    def importance(self) -> Floats:
        """Mean squares, flat, as the quantiser takes them; 1 where nothing was counted."""
        counts = np.maximum(self.counts, 1)[:, None]
        means = np.where(self.counts[:, None] > 0, self.sums / counts, 1)
        return np.ascontiguousarray(means.reshape(-1), np.float32)


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """The importance of all columns of a model's matrices.

    Args:
        usage: By the name of the matrix, such as `blk.0.attn_q.weight`.
        datasets: What it was computed from.
        n_chunks: Windows that were read.
        chunk_size: Tokens of a window.
    """

    usage: Mapping[str, Usage] = field(repr=False)
    datasets: tuple[str, ...]
    n_chunks: int
    chunk_size: int


def is_imatrix(path: Path) -> bool:
    """Whether a file is a GGUF, which as importance data can only be an importance matrix."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def write_imatrix(matrix: ImportanceMatrix, target: Path, *, architecture: str) -> None:
    """Write an importance matrix as a GGUF file, whole or not at all.

    Args:
        matrix: What to write.
        target: The file.
        architecture: Of the model that it is for.
    """
    data = Metadata()
    data.string("general.type", KIND)
    data.array(_DATASETS, matrix.datasets)
    data.uint(_N_CHUNKS, matrix.n_chunks)
    data.uint(_CHUNK_SIZE, matrix.chunk_size)
    tensors = [
        tensor
        for name, usage in sorted(matrix.usage.items())
        for tensor in (
            _planned(name + _SUMS, usage.sums),
            _planned(name + _COUNTS, usage.counts[:, None]),
        )
    ]
    write_gguf(
        target,
        architecture=architecture,
        metadata=data,
        tensors=tensors,
        advance=lambda _: None,
    )


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read an importance matrix that we or `llama-imatrix` wrote.

    Raises:
        ModelNotFound: No such file.
        ModelCorrupt: Damaged, or a matrix has sums without counts.
        ModelUnsupported: A GGUF of another kind, or what older versions of llama.cpp wrote.
    """
    header = read_header(path)
    names = [t.name.removesuffix(_SUMS) for t in header.tensors if t.name.endswith(_SUMS)]
    if not names:
        raise ModelUnsupported(
            f"`{path}` is a GGUF file and no importance matrix",
            hint="name what `llama-imatrix` or `--save-imatrix` wrote, or a text to compute one",
        )
    read = _reader(header)
    usage = {name: _usage(name, read) for name in names}
    return ImportanceMatrix(
        usage=usage,
        datasets=tuple(header.strings(_DATASETS)),
        n_chunks=int(header.number(_N_CHUNKS)),
        chunk_size=int(header.number(_CHUNK_SIZE)),
    )


def _planned(name: str, values: Floats) -> PlannedTensor:
    def chunks() -> Iterator[Floats]:
        yield values

    return PlannedTensor(name, values.shape, GGMLQuantizationType.F32, chunks)


def _usage(name: str, read: Callable[[str], Floats]) -> Usage:
    sums, counts = read(name + _SUMS), read(name + _COUNTS)
    if not len(counts) or len(sums) % len(counts):
        raise ModelCorrupt(f"`{name}` has {len(sums)} sums and {len(counts)} counts")
    if not (np.isfinite(sums).all() and np.isfinite(counts).all()):
        raise ModelCorrupt(f"the importance of `{name}` is not finite")
    return Usage(sums.reshape(len(counts), -1), counts)


def _reader(header: GgufHeader) -> Callable[[str], Floats]:
    tensors = {tensor.name: tensor for tensor in header.tensors}

    def read(name: str) -> Floats:
        tensor = tensors.get(name)
        if tensor is None or tensor.type is not GGMLQuantizationType.F32:
            raise ModelCorrupt(f"`{header.path}` lacks `{name}`, or not as F32")
        return _load(header, tensor)

    return read


def _load(header: GgufHeader, tensor: GgufTensor) -> Floats:
    return np.fromfile(
        header.path,
        np.dtype("<f4"),
        count=tensor.n_elements,
        offset=header.data_offset + tensor.offset,
    )
