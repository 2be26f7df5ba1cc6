"""Safetensors as they lie on disk: headers checked to the byte, rows read a few at a time.

Knows the file format, shards and their index; nothing of what the tensors mean. Rows are read, not
mapped into memory: a file that shrinks meanwhile is then an error instead of a dead process.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwenkit.errors import ModelCorrupt, ModelNotFound, ModelUnsupported

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""What a text needs on its way in and out, as far as a checkpoint has it."""
MAX_HEADER_BYTES = 100_000_000
CHUNK_BYTES = 16 * 1024 * 1024
DTYPE_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "C64": 64,
    "U64": 64,
    "I64": 64,
    "F64": 64,
}
# BF16 is read raw: numpy has no such type, and most of the time it is only copied.
FLOAT_DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies and how.

    Args:
        name: As the checkpoint spells it.
        dtype: As safetensors spells it, such as `BF16`.
        shape: Rows first.
        path: File it lies in.
        start: First byte of its data, counted from the start of the file.
        n_bytes: Size of its data.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    n_bytes: int

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[NDArray[Any]]:
        """The rows in order, as many at a time as `chunk_bytes` hold; BF16 as raw uint16.

        Raises:
            ModelUnsupported: Not a floating-point tensor that numpy can hold.
            ModelCorrupt: The file became shorter since its header was read.
        """
        if self.dtype not in FLOAT_DTYPES:
            raise ModelUnsupported(f"the tensor `{self.name}` is stored as {self.dtype}")
        dtype, columns = np.dtype(FLOAT_DTYPES[self.dtype]), math.prod(self.shape[1:])
        n_rows = self.shape[0] if self.shape else 1
        step = max(1, chunk_bytes // max(1, columns * dtype.itemsize))
        with self.path.open("rb") as file:
            file.seek(self.start)
            for first in range(0, n_rows, step):
                rows = min(step, n_rows - first)
                data = np.fromfile(file, dtype=dtype, count=rows * columns)
                if data.size < rows * columns:
                    raise ModelCorrupt(f"`{self.path}` ends inside the tensor `{self.name}`")
                yield data.reshape(rows, *self.shape[1:])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All tensors of a folder, by name."""

    folder: Path
    files: tuple[Path, ...]
    tensors: dict[str, StoredTensor] = field(repr=False)

    @property
    def n_bytes(self) -> int:
        """Size of all tensors' data."""
        return sum(tensor.n_bytes for tensor in self.tensors.values())


def to_float32(rows: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Stored rows as float32; exact but for F64."""
    if dtype == "BF16":
        return (rows.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return rows.astype(np.float32, copy=False)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of a folder's safetensors: one file, or shards with their index.

    Raises:
        ModelNotFound: There are none.
        ModelCorrupt: A file is damaged, a shard is missing, or index and shards disagree.
    """
    index = folder / INDEX_NAME
    if index.exists():
        return _open_sharded(folder, index)
    files = sorted(folder.glob("*.safetensors"))
    if (folder / SINGLE_NAME) in files:
        files = [folder / SINGLE_NAME]
    if not files:
        raise ModelNotFound(f"there are no safetensors in `{folder}`")
    if len(files) > 1:
        raise ModelCorrupt(f"`{folder}` has {len(files)} safetensors files and no `{INDEX_NAME}`")
    return Checkpoint(folder, tuple(files), read_tensors(files[0]))


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """Read one safetensors file's header and check every number in it.

    Raises:
        ModelNotFound: No such file.
        ModelCorrupt: The file is truncated or its header contradicts itself or the file's size.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            n_header = int.from_bytes(file.read(8), "little")
            if size < 8 or n_header > min(MAX_HEADER_BYTES, size - 8):
                raise _corrupt(
                    path, f"its header should have {n_header} bytes, the file has {size}"
                )
            header = _parse_header(path, file.read(n_header))
    except FileNotFoundError as exc:
        raise ModelNotFound(f"there is no file `{path}`") from exc
    header.pop("__metadata__", None)
    tensors = [_tensor(path, name, entry, 8 + n_header) for name, entry in header.items()]
    _check_layout(path, tensors, 8 + n_header, size)
    return {tensor.name: tensor for tensor in tensors}


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        ModelNotFound: No such file.
        ModelCorrupt: Not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ModelNotFound(f"`{path.parent}` has no `{path.name}`") from exc
    except (ValueError, RecursionError) as exc:
        raise ModelCorrupt(f"`{path}` is not valid JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ModelCorrupt(f"`{path}` holds no JSON object")
    return value


def _open_sharded(folder: Path, index: Path) -> Checkpoint:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(_is_plain(n) for n in weight_map.values()):
        raise ModelCorrupt(f"`{index}` has no valid `weight_map`")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise ModelCorrupt(
            f"`{folder}` lacks {len(missing)} of {len(names)} shards: {', '.join(missing)}",
            hint="download the missing files",
        )
    tensors: dict[str, StoredTensor] = {}
    for name in names:
        for tensor in read_tensors(folder / name).values():
            if weight_map.get(tensor.name) != name:
                raise ModelCorrupt(f"`{name}` holds `{tensor.name}`, its index says otherwise")
            tensors[tensor.name] = tensor
    for lost in weight_map.keys() - tensors.keys():
        raise ModelCorrupt(f"`{weight_map[lost]}` lacks the tensor `{lost}` that its index names")
    return Checkpoint(folder, tuple(folder / name for name in names), tensors)


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name == Path(name).name and name.endswith(".safetensors")


def _corrupt(path: Path, fact: str) -> ModelCorrupt:
    return ModelCorrupt(
        f"`{path}` is not a sound safetensors file: {fact}", hint="download the file again"
    )


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise _corrupt(path, "a name is in its header twice")
        return entries

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as exc:
        raise _corrupt(path, f"its header is not valid JSON ({exc})") from exc
    if not isinstance(header, dict):
        raise _corrupt(path, "its header is not a JSON object")
    return header


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> StoredTensor:
    match entry:
        case {
            "dtype": str(dtype),
            "shape": [*shape],
            "data_offsets": [int(start), int(end)],
        } if dtype in DTYPE_BITS and all(_is_count(n) for n in shape) and 0 <= start <= end:
            n_bits = math.prod(shape) * DTYPE_BITS[dtype]
        case _:
            raise _corrupt(path, f"the entry of `{name}` is malformed: {entry!r}")
    if n_bits != 8 * (end - start):
        raise _corrupt(
            path,
            f"`{name}` of {dtype} {shape} takes {n_bits / 8:.0f} bytes, {end - start} are there",
        )
    return StoredTensor(name, dtype, tuple(shape), path, data_start + start, end - start)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_layout(path: Path, tensors: list[StoredTensor], start: int, size: int) -> None:
    end = start
    for tensor in sorted(tensors, key=lambda t: (t.start, t.n_bytes)):
        if tensor.start != end:
            raise _corrupt(path, f"`{tensor.name}` starts at {tensor.start} instead of {end}")
        end += tensor.n_bytes
    if end != size:
        raise _corrupt(path, f"{end} bytes are expected and the file has {size}")
