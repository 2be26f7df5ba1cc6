"""Reads what a GGUF file says of itself: metadata and the table of tensors, never the weights.

A plain walk over the header: the `gguf` package's reader takes 12 s for a vocabulary of 150,000
tokens, this a quarter of a second. It checks what llama.cpp checks, and says which byte of
which section is wrong. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from qwenkit.errors import ModelCorrupt, ModelNotFound, ModelUnsupported

Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | list[Scalar]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
MAX_TENSOR_NAME = 63
SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$")

_NUMBER_FORMATS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One row of the tensor table.

    Args:
        name: Such as `blk.0.attn_q.weight`.
        shape: Rows first, as numpy and safetensors spell it.
        type: How the numbers are stored.
        offset: Bytes from the start of the data section.
        n_bytes: Size of the tensor's data.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    n_bytes: int

    @property
    def n_elements(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A GGUF file's metadata and tensor table."""

    path: Path
    version: int
    size_bytes: int
    data_offset: int
    metadata: dict[str, Value] = field(repr=False)
    tensors: tuple[GgufTensor, ...] = field(repr=False)

    def text(self, key: str, default: str = "") -> str:
        """The metadata under `key` when it is a string."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else default

    def number(self, key: str, default: float = 0) -> float:
        """The metadata under `key` when it is a number."""
        value = self.metadata.get(key)
        return value if isinstance(value, (int, float)) else default

    def strings(self, key: str) -> list[str]:
        """The metadata under `key` when it is a list of strings."""
        value = self.metadata.get(key)
        return [str(item) for item in value] if isinstance(value, list) else []

    @property
    def n_split(self) -> int:
        """Files the model is split over; 1 for a whole one."""
        return max(1, int(self.number("split.count")))


class _Walk:
    """Reads forward through a header and knows which section it is in."""

    def __init__(self, file: BinaryIO, path: Path, size_bytes: int) -> None:
        self.file = file
        self.path = path
        self.size_bytes = size_bytes
        self.section = "header"

    def fail(self, fact: str) -> ModelCorrupt:
        return ModelCorrupt(
            f"`{self.path}` is not a sound GGUF file: {fact}",
            hint="delete it and fetch or convert it again",
        )

    def read(self, n_bytes: int) -> bytes:
        data = self.file.read(n_bytes) if n_bytes <= self.size_bytes else b""
        if len(data) < n_bytes:
            raise self.fail(f"its {self.section} is cut off at byte {self.size_bytes}")
        return data

    def number(self, fmt: str) -> int:
        value: int = struct.unpack("<" + fmt, self.read(struct.calcsize(fmt)))[0]
        return value

    def string(self) -> str:
        return self.strings(1)[0]

    def strings(self, n_items: int) -> list[str]:
        # A vocabulary has 300,000 of these, so the loop touches only local names.
        length, read = struct.Struct("<Q").unpack, self.read
        try:
            return [read(length(read(8))[0]).decode() for _ in range(n_items)]
        except UnicodeDecodeError:
            raise self.fail(f"its {self.section} holds text that is not UTF-8") from None

    def value(self, key: str) -> Value:
        kind = self.value_type(key)
        if kind is not GGUFValueType.ARRAY:
            return self.items(kind, 1)[0]
        kind, n_items = self.value_type(key), self.number("Q")
        if kind is GGUFValueType.ARRAY:
            raise self.fail(f"`{key}` is a list of lists")
        if n_items > self.size_bytes:
            raise self.fail(f"`{key}` claims {n_items} items, more than the file has bytes")
        return self.items(kind, n_items)

    def value_type(self, key: str) -> GGUFValueType:
        code = self.number("I")
        try:
            return GGUFValueType(code)
        except ValueError:
            raise self.fail(f"`{key}` has the unknown type {code}") from None

    def items(self, kind: GGUFValueType, n_items: int) -> list[Scalar]:
        if kind is GGUFValueType.STRING:
            return list(self.strings(n_items))
        fmt = f"<{n_items}{_NUMBER_FORMATS[kind]}"
        return list(struct.unpack(fmt, self.read(struct.calcsize(fmt))))


def read_header(path: Path) -> GgufHeader:
    """Read a GGUF file's header and check it against the file's size.

    Raises:
        ModelNotFound: No such file.
        ModelCorrupt: Not a GGUF file, cut off, or contradicting itself.
        ModelUnsupported: A version, byte order or tensor type that this llama.cpp doesn't read.
    """
    try:
        with path.open("rb") as file:
            return _walk(_Walk(file, path, path.stat().st_size))
    except FileNotFoundError as exc:
        raise ModelNotFound(f"there is no file `{path}`") from exc
    except OSError as exc:
        raise ModelCorrupt(f"`{path}` can't be read: {exc.strerror}") from exc


def split_parts(path: Path) -> list[Path]:
    """All files of the model that `path` is a part of, by its name; `[path]` when it is whole."""
    match = SPLIT_NAME.match(path.name)
    if match is None:
        return [path]
    stem, count = match["stem"], int(match["count"])
    return [path.with_name(f"{stem}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]


def _walk(walk: _Walk) -> GgufHeader:
    version = _read_version(walk)
    n_tensors, n_values = walk.number("Q"), walk.number("Q")
    if max(n_tensors, n_values) > walk.size_bytes:
        raise walk.fail(
            f"it claims {n_tensors} tensors and {n_values} values, more than it has bytes"
        )
    metadata = _read_metadata(walk, n_values)
    alignment = _alignment(walk, metadata)
    tensors = _read_tensors(walk, n_tensors)
    data_offset = _pad(walk.file.tell(), alignment)
    _check_layout(walk, tensors, data_offset, alignment)
    return GgufHeader(walk.path, version, walk.size_bytes, data_offset, metadata, tensors)


def _read_version(walk: _Walk) -> int:
    magic = walk.read(4)
    if magic != MAGIC:
        raise walk.fail(f"it starts with {magic!r} instead of {MAGIC!r}")
    version = walk.number("I")
    if version & 0xFFFF == 0 and version:
        raise ModelUnsupported(f"`{walk.path}` is a big-endian GGUF file")
    if version not in VERSIONS:
        raise ModelUnsupported(
            f"`{walk.path}` is GGUF version {version}; versions 2 and 3 can be read",
            hint="convert the model again with a current converter",
        )
    return version


def _read_metadata(walk: _Walk, n_values: int) -> dict[str, Value]:
    walk.section = "metadata"
    metadata: dict[str, Value] = {}
    for _ in range(n_values):
        key = walk.string()
        if not key or key in metadata:
            raise walk.fail(f"the metadata key `{key}` is empty or there twice")
        metadata[key] = walk.value(key)
    return metadata


def _alignment(walk: _Walk, metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise walk.fail(f"its alignment {alignment!r} is not a power of two")
    return alignment


def _read_tensors(walk: _Walk, n_tensors: int) -> tuple[GgufTensor, ...]:
    walk.section = "tensor table"
    tensors: dict[str, GgufTensor] = {}
    for _ in range(n_tensors):
        tensor = _read_tensor(walk)
        if tensor.name in tensors:
            raise walk.fail(f"the tensor `{tensor.name}` is there twice")
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _read_tensor(walk: _Walk) -> GgufTensor:
    name = walk.string()
    if len(name.encode()) > MAX_TENSOR_NAME:
        raise walk.fail(f"a tensor's name has more than {MAX_TENSOR_NAME} bytes")
    n_dims = walk.number("I")
    if n_dims > MAX_DIMS:
        raise walk.fail(f"the tensor `{name}` has {n_dims} dimensions, at most {MAX_DIMS} can be")
    shape = tuple(reversed([walk.number("Q") for _ in range(n_dims)]))
    code, offset = walk.number("I"), walk.number("Q")
    try:
        kind = GGMLQuantizationType(code)
    except ValueError:
        raise ModelUnsupported(f"`{walk.path}`: `{name}` has the unknown type {code}") from None
    return GgufTensor(name, shape, kind, offset, _n_bytes(walk, name, shape, kind))


def _n_bytes(walk: _Walk, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    n_block, block_bytes = GGML_QUANT_SIZES[kind]
    row = shape[-1] if shape else 1
    if row % n_block:
        raise walk.fail(f"`{name}` has rows of {row}, {kind.name} wants multiples of {n_block}")
    n_bytes: int = math.prod(shape) // n_block * block_bytes
    return n_bytes


def _check_layout(
    walk: _Walk, tensors: tuple[GgufTensor, ...], data_offset: int, alignment: int
) -> None:
    expected = 0
    for tensor in tensors:
        if tensor.offset != expected:
            raise walk.fail(f"`{tensor.name}` stands at {tensor.offset}, {expected} is its place")
        end = data_offset + tensor.offset + tensor.n_bytes
        if end > walk.size_bytes:
            raise walk.fail(
                f"the data of `{tensor.name}` ends at byte {end} "
                f"and the file at byte {walk.size_bytes}"
            )
        expected = _pad(expected + tensor.n_bytes, alignment)


def _pad(n_bytes: int, alignment: int) -> int:
    return -(-n_bytes // alignment) * alignment
