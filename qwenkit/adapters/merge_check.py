"""Reads a merged model back and compares every number with what it should be, in 64-bit floats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf.quants import dequantize, quant_shape_to_byte_shape

from qwenkit.adapters.check import Comparison, Difference
from qwenkit.adapters.lora import Float64, LoraPair
from qwenkit.errors import ModelCorrupt
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import (
    FLOAT_DTYPES,
    Checkpoint,
    StoredTensor,
    open_checkpoint,
    read_json,
    to_float32,
)
from qwenkit.models.gguf_header import GgufTensor, read_header

# Of the largest number of a matrix: a little more than rounding to the format can cost.
TOLERANCES = {"F32": 1e-5, "F64": 1e-5, "F16": 6e-4, "BF16": 5e-3, "Q8_0": 6e-3}
_CHUNK_NUMBERS = 2**22


@dataclass(frozen=True, slots=True)
class _InGguf:
    """A tensor of a GGUF file, read as `StoredTensor` is."""

    path: Path
    start: int
    tensor: GgufTensor

    def rows(self, n_rows: int) -> Iterator[Float64]:
        columns = self.tensor.shape[-1]
        row_bytes = quant_shape_to_byte_shape((columns,), self.tensor.type)[0]
        with self.path.open("rb") as file:
            file.seek(self.start)
            for first in range(0, self.tensor.n_elements // columns, n_rows):
                count = min(n_rows, self.tensor.n_elements // columns - first)
                raw = np.fromfile(file, dtype=np.uint8, count=count * row_bytes)
                yield dequantize(raw, self.tensor.type).reshape(count, columns).astype(np.float64)

    @property
    def dtype(self) -> str:
        return str(self.tensor.type.name)


@dataclass(frozen=True, slots=True)
class _InSafetensors:
    tensor: StoredTensor

    def rows(self, n_rows: int) -> Iterator[Float64]:
        columns = self.tensor.shape[-1]
        row_bytes = columns * np.dtype(FLOAT_DTYPES[self.dtype]).itemsize
        chunk_bytes = (n_rows if len(self.tensor.shape) > 1 else columns) * row_bytes
        for chunk in self.tensor.chunks(chunk_bytes):
            yield to_float32(chunk, self.dtype).reshape(-1, columns).astype(np.float64)

    @property
    def dtype(self) -> str:
        return self.tensor.dtype


def check_merged(target: Path, base: Checkpoint, pairs: Mapping[str, LoraPair]) -> Difference:
    """Compare a merged model with its base and what changes it.

    Args:
        target: The folder or `.gguf` that was written.
        base: What was merged into.
        pairs: What changes it, by the names of its tensors.

    Raises:
        ModelCorrupt: A tensor can't be read back.
        AdapterUnsupported: More differs than rounding explains.
    """
    found = _in_gguf(target, base) if target.suffix == ".gguf" else _in_folder(target)
    wanted = {name: tensor for name, tensor in base.tensors.items() if name in found}
    lost = pairs.keys() - wanted.keys()
    if lost:
        raise ModelCorrupt(f"`{target}` lacks `{min(lost)}`")
    comparison = Comparison(max(TOLERANCES[found[name].dtype] for name in wanted))
    for name, tensor in wanted.items():
        n_rows = max(1, _CHUNK_NUMBERS // max(1, tensor.shape[-1]))
        original = _InSafetensors(tensor).rows(n_rows)
        pair = pairs.get(name)
        should_be = original if pair is None else _changed(original, pair)
        comparison.add(name, found[name].rows(n_rows), should_be)
    return comparison.result(target)


def _in_folder(target: Path) -> dict[str, _InGguf | _InSafetensors]:
    tensors = open_checkpoint(target).tensors
    return {
        name: _InSafetensors(tensor)
        for name, tensor in tensors.items()
        if tensor.dtype in FLOAT_DTYPES and tensor.n_bytes
    }


def _in_gguf(target: Path, base: Checkpoint) -> dict[str, _InGguf | _InSafetensors]:
    header = read_header(target)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    config = qwen3.parse_config(read_json(base.folder / "config.json"))
    return {
        expected.hf_name: _InGguf(target, header.data_offset + tensor.offset, tensor)
        for expected in qwen3.expected_tensors(config)
        if (tensor := tensors.get(expected.gguf_name)) is not None
    }


def _changed(rows: Iterator[Float64], pair: LoraPair) -> Iterator[Float64]:
    a = pair.a.astype(np.float64) * pair.scale
    first = 0
    for weights in rows:
        part = slice(first, first + len(weights))
        changed = weights + pair.b[part].astype(np.float64) @ a
        if pair.magnitude is not None:
            lengths = np.linalg.norm(changed, axis=1)
            changed *= (pair.magnitude[part].astype(np.float64) / lengths)[:, None]
        yield changed
        first += len(weights)
