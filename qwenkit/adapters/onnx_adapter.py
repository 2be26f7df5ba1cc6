"""Adapters as ONNX Runtime reads them: the inputs of an exported graph, by name.

The graph multiplies with A `[in, rank]` and B `[rank, out]` and nothing else, so the scale is part
of B. Writing takes onnxruntime; reading walks the file itself, so that a damaged one is an error
and never a crash. Source: onnxruntime, lora/adapter_format/adapter_schema.fbs; flatbuffers'
internals, https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qwenkit.adapters.base import BaseShapes, IoType, LoraSlot, gguf_name
from qwenkit.adapters.lora import Float32, Lora, LoraPair, make_lora
from qwenkit.adapters.template_stamp import hash_of_versions, onnx_versions
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelNotFound
from qwenkit.extras import import_extra
from qwenkit.models.atomic import atomic_file

IDENTIFIER = b"TORT"
FORMAT_VERSION = 1
# Codes of ONNX's TensorProto.DataType.
_DTYPES: dict[int, IoType] = {1: "float32", 10: "float16"}
# Names of inputs: as our export gives them, and as onnxruntime-genai's model builder does.
_NAMES = (
    re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])\.weight"),
    re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])\.MatMul\.weight"),
)
_MAX_PARAMETERS = 2**16


@dataclass(frozen=True, slots=True)
class Parameter:
    """One input's value in the file."""

    name: str
    dtype: IoType
    data: npt.NDArray[np.float32] | npt.NDArray[np.float16]


def read_onnx_adapter(path: Path, base: BaseShapes | None = None) -> Lora:
    """Read an adapter from an `.onnx_adapter`.

    Args:
        path: The file.
        base: Tells what the inputs stand for; without slots they must be named after matrices.

    Raises:
        ModelNotFound: No such file.
        ModelCorrupt: It is truncated or contradicts itself.
        AdapterUnsupported: Its inputs are not those of LoRA slots, or not of a float type.
    """
    slots = base.slots if base is not None else {}
    places = {
        name: place for module, slot in slots.items() for name, place in _halves(module, slot)
    }
    found: dict[str, dict[str, Parameter]] = {}
    parameters, template_hash = _read(path)
    for parameter in parameters:
        place = places.get(parameter.name) or _by_name(parameter.name)
        if place is None:
            raise AdapterUnsupported(f"`{path}`: `{parameter.name}` is no LoRA slot of the model")
        found.setdefault(place[0], {})[place[1]] = parameter
    pairs = [_pair(path, module, halves) for module, halves in found.items()]
    return make_lora(path, pairs, 0.0, template_hash)


def write_onnx_adapter(lora: Lora, target: Path, base: BaseShapes) -> None:
    """Write an adapter for the slots of an exported model, whole or not at all.

    Raises:
        AdapterUnsupported: The model has no slot for a matrix, or a number is too large for its
            number format.
        MissingExtra: onnxruntime is not installed.
    """
    onnxruntime = import_extra("onnxruntime", extra="onnx")
    arrays = {}
    for pair in lora.pairs:
        slot = base.slots.get(pair.module)
        if slot is None:
            raise AdapterUnsupported(f"`{base.name}` has no LoRA slot for `{pair.module}`")
        scaled = pair.b.astype(np.float64) * pair.scale
        arrays[slot.a] = _as_input(lora, pair, pair.a, base.io_dtype)
        arrays[slot.b] = _as_input(lora, pair, scaled, base.io_dtype)
    values = {n: onnxruntime.OrtValue.ortvalue_from_numpy(array) for n, array in arrays.items()}
    file = onnxruntime.AdapterFormat()
    file.set_parameters(values)
    if lora.template_hash is not None:
        adapter_version, model_version = onnx_versions(lora.template_hash)
        file.set_adapter_version(adapter_version)
        file.set_model_version(model_version)
    with atomic_file(target) as partial:
        file.export_adapter(str(partial.resolve()))


def is_written_for(path: Path, base: BaseShapes) -> bool:
    """Whether a sound file has exactly the names and the number format of a model's slots."""
    names = {name for slot in base.slots.values() for name in (slot.a, slot.b)}
    return all(p.name in names and p.dtype == base.io_dtype for p in read_parameters(path))


def read_parameters(path: Path) -> list[Parameter]:
    """Read everything in an `.onnx_adapter`.

    Raises:
        ModelNotFound: No such file.
        ModelCorrupt: It is truncated or contradicts itself.
        AdapterUnsupported: Another version of the format, or a value that is no float.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[list[Parameter], str | None]:
    """The inputs' values, and the template's hash where the file carries one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise ModelNotFound(f"there is no file `{path}`") from exc
    if data[4:8] != IDENTIFIER:
        raise ModelCorrupt(f"`{path}` is not an .onnx_adapter: it lacks the mark {IDENTIFIER!r}")
    try:
        buffer = _Buffer(data)
        parameters = list(_parameters(path, buffer))
        root = buffer.follow(0)
        template_hash = hash_of_versions(buffer.scalar(root, 1), buffer.scalar(root, 2))
    except (struct.error, IndexError, UnicodeDecodeError) as exc:
        raise ModelCorrupt(f"`{path}` is truncated or damaged: {exc}") from exc
    if len({parameter.name for parameter in parameters}) < len(parameters):
        raise ModelCorrupt(f"`{path}` has an input twice")
    return parameters, template_hash


class _Buffer:
    """Follows a flatbuffer's offsets; what points outside raises `struct.error` or `IndexError`."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def number(self, fmt: str, at: int) -> int:
        if at < 0:
            raise IndexError(f"an offset leads to {at}")
        value: int = struct.unpack_from("<" + fmt, self.data, at)[0]
        return value

    def follow(self, at: int) -> int:
        return at + self.number("I", at)

    def field(self, table: int, index: int) -> int | None:
        """Where a table's field lies; None when it has its default."""
        vtable = table - self.number("i", table)
        slot = 4 + 2 * index
        if slot + 2 > self.number("H", vtable):
            return None
        offset = self.number("H", vtable + slot)
        return table + offset if offset else None

    def vector(self, table: int, index: int, item_bytes: int) -> tuple[int, int]:
        """Start and length of a vector that lies within the file; an absent one is empty."""
        at = self.field(table, index)
        if at is None:
            return 0, 0
        start = self.follow(at)
        n_items = self.number("I", start)
        if start + 4 + n_items * item_bytes > len(self.data):
            raise IndexError(f"{n_items} items at byte {start} reach beyond the end")
        return start + 4, n_items

    def scalar(self, table: int, index: int) -> int:
        at = self.field(table, index)
        return 0 if at is None else self.number("i", at)


def _parameters(path: Path, buffer: _Buffer) -> Iterator[Parameter]:
    root = buffer.follow(0)
    version = buffer.scalar(root, 0)
    if version != FORMAT_VERSION:
        raise AdapterUnsupported(f"`{path}` has version {version} of its format, not 1")
    start, n_parameters = buffer.vector(root, 3, 4)
    # Many entries may point to one and the same large value.
    if n_parameters > _MAX_PARAMETERS:
        raise ModelCorrupt(f"`{path}` claims to have {n_parameters} inputs")
    spent = 0
    for i in range(n_parameters):
        parameter = _parameter(path, buffer, buffer.follow(start + 4 * i))
        spent += parameter.data.nbytes
        if spent > len(buffer.data):
            raise ModelCorrupt(f"`{path}` has inputs that overlap")
        yield parameter


def _parameter(path: Path, buffer: _Buffer, table: int) -> Parameter:
    at, n_bytes = buffer.vector(table, 0, 1)
    name = buffer.data[at : at + n_bytes].decode()
    at, n_dims = buffer.vector(table, 1, 8)
    shape = struct.unpack_from(f"<{n_dims}q", buffer.data, at) if n_dims else ()
    code = buffer.scalar(table, 2)
    if code not in _DTYPES:
        raise AdapterUnsupported(
            f"`{path}`: `{name}` has the number format {code}; float32 and float16 can be read"
        )
    dtype = np.dtype(_DTYPES[code])
    at, n_bytes = buffer.vector(table, 3, 1)
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != n_bytes:
        raise ModelCorrupt(
            f"`{path}`: `{name}` of {list(shape)} {dtype} can't have {n_bytes} bytes"
        )
    data = (
        np.frombuffer(buffer.data, dtype, math.prod(shape), at) if n_bytes else np.zeros(0, dtype)
    )
    return Parameter(name, _DTYPES[code], data.reshape(shape))


def _halves(module: str, slot: LoraSlot) -> Iterator[tuple[str, tuple[str, str]]]:
    yield slot.a, (module, "A")
    yield slot.b, (module, "B")


def _by_name(name: str) -> tuple[str, str] | None:
    for pattern in _NAMES:
        match = pattern.fullmatch(name)
        if match is not None:
            module = match["module"].replace(".attn.", ".self_attn.")
            return (module, match["half"]) if gguf_name(module) else None
    return None


def _pair(path: Path, module: str, halves: dict[str, Parameter]) -> LoraPair:
    for half in ("A", "B"):
        if half not in halves:
            raise ModelCorrupt(
                f"`{path}`: `{next(iter(halves.values())).name}` has no {half} beside it"
            )
    a, b = halves["A"], halves["B"]
    return LoraPair(
        module=module,
        a=_matrix(a),
        b=_matrix(b),
        scale=1.0,
        stored_as=f"onnx {a.dtype} {b.dtype}",
    )


def _matrix(parameter: Parameter) -> Float32:
    return np.ascontiguousarray(parameter.data.T, dtype=np.float32)


def _as_input(
    lora: Lora, pair: LoraPair, matrix: npt.NDArray[np.floating], dtype: IoType
) -> npt.NDArray[np.floating]:
    with np.errstate(over="ignore"):
        value = np.ascontiguousarray(matrix.T, dtype=dtype)
    if not np.isfinite(value).all():
        raise AdapterUnsupported(
            f"`{lora.source}`: `{pair.module}` holds numbers too large for {dtype}"
        )
    return value
