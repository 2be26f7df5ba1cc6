"""Adds an adapter to the weights it was trained on: a new checkpoint, or a GGUF file.

Works through the base a few rows at a time, in 32-bit floats, and rounds once, to the number format
of the result; what the adapter doesn't change is copied. Memory stays at the adapter and a few
dozen megabytes. The only place where DoRA can be used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qwenkit.adapters.base import base_of_checkpoint, check_fit, gguf_name
from qwenkit.adapters.check import Difference
from qwenkit.adapters.lora import Float32, Lora, LoraPair
from qwenkit.adapters.merge_check import check_merged
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import InvalidSettings, ModelCorrupt, ModelUnsupported
from qwenkit.models import qwen3
from qwenkit.models.atomic import atomic_folder, require_space
from qwenkit.models.checkpoint import (
    CHUNK_BYTES,
    INDEX_NAME,
    Checkpoint,
    StoredTensor,
    open_checkpoint,
    read_json,
    to_float32,
)
from qwenkit.models.convert import plan_conversion
from qwenkit.models.gguf_file import write_gguf
from qwenkit.models.progress import Advance, ProgressFactory, silent
from qwenkit.models.safetensors_file import TensorToWrite, encode_as, write_safetensors

FOLDER_DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
MAX_SCALE = 100.0
_TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# What lies beside the weights and goes with them.
_COMPANIONS = (".json", ".jinja", ".txt", ".model")
_LICENCES = ("LICENSE", "LICENSE.md", "NOTICE")


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedModel:
    """What was written.

    Args:
        path: The folder or the file.
        format: What it is.
        n_merged: Matrices that the adapter changed.
        size_bytes: Size of the weights.
        check: How far they are from what they should be; None when that was not asked for.
    """

    path: Path
    format: Literal["safetensors", "gguf"]
    n_merged: int
    size_bytes: int
    check: Difference | None


@dataclass(frozen=True, slots=True)
class _Merge:
    """A base and what changes it, by the names of its tensors; the two fit."""

    checkpoint: Checkpoint
    pairs: dict[str, LoraPair]

    def rows(self, name: str) -> Iterator[Float32]:
        """The rows of a changed matrix, in order, a few at a time."""
        stored, pair, first = self.checkpoint.tensors[name], self.pairs[name], 0
        for chunk in stored.chunks():
            changed = _changed(to_float32(chunk, stored.dtype), pair, first)
            if not np.isfinite(changed).all():
                raise ModelCorrupt(f"merging makes NaN or infinity of numbers in `{name}`")
            yield changed
            first += len(changed)


def merge_adapter(
    base: Path,
    adapter: Path,
    target: Path,
    *,
    scale: float = 1.0,
    dtype: str = "auto",
    check: bool = False,
    progress: ProgressFactory = silent,
) -> MergedModel:
    """Merge an adapter into its base.

    Args:
        base: Folder of safetensors.
        adapter: A PEFT folder, a `.gguf` or an `.onnx_adapter`.
        target: Folder to write, or a `.gguf` file; it appears whole or not at all, in the place
            of what was there.
        scale: Multiplies the change; 1 is the strength it was trained with.
        dtype: Number format: `auto` (as the base), `f32`, `f16`, `bf16`, and for GGUF `q8_0`.
        check: Read the result back and compare.
        progress: Told the bytes written.

    Raises:
        ModelError: Base or adapter can't be used, or don't fit each other.
        InvalidSettings: No such dtype or scale, or too little space on the disk.
    """
    _check_paths(base, target)
    lora = _scaled(read_adapter(adapter), scale)
    check_fit(lora, base_of_checkpoint(base))
    merge = _match(open_checkpoint(base), lora)
    to_gguf = target.suffix == ".gguf"
    try:
        size_bytes = (_to_gguf if to_gguf else _to_folder)(merge, target, dtype, progress)
    except OverflowError as exc:
        raise ModelUnsupported(
            "the merged weights hold numbers too large for F16", hint="merge into bf16"
        ) from exc
    return MergedModel(
        path=target,
        format="gguf" if to_gguf else "safetensors",
        n_merged=len(merge.pairs),
        size_bytes=size_bytes,
        check=check_merged(target, merge.checkpoint, merge.pairs) if check else None,
    )


def _check_paths(base: Path, target: Path) -> None:
    if not base.is_dir():
        raise ModelUnsupported(
            f"`{base}` is no folder of safetensors, which an adapter can be merged into",
            hint="merge into the safetensors and end the target in .gguf",
        )
    if target.is_dir() and not _may_be_replaced(target):
        raise InvalidSettings(
            f"`{target}` is a folder that holds no model", hint="name another target"
        )
    if target.resolve() in (base.resolve(), *base.resolve().parents):
        raise InvalidSettings(f"`{target}` holds the base itself", hint="name another target")


def _may_be_replaced(folder: Path) -> bool:
    if folder.suffix == ".gguf":
        return False
    return (folder / "config.json").exists() or not any(folder.iterdir())


def _scaled(lora: Lora, scale: float) -> Lora:
    if not -MAX_SCALE <= scale <= MAX_SCALE:  # also true for NaN
        raise InvalidSettings(f"the scale {scale} is not from {-MAX_SCALE:g} to {MAX_SCALE:g}")
    if scale != 1.0 and lora.is_dora:
        raise InvalidSettings(f"`{lora.source}` is a DoRA, which has no strength but its own")
    return replace(lora, pairs=tuple(replace(p, scale=p.scale * scale) for p in lora.pairs))


def _match(checkpoint: Checkpoint, lora: Lora) -> _Merge:
    pairs = {f"{pair.module}.weight": pair for pair in lora.pairs}
    for name, pair in pairs.items():
        stored = checkpoint.tensors.get(name)
        if stored is None or stored.shape != pair.shape:
            found = "lacks it" if stored is None else f"has {list(stored.shape)}"
            raise ModelCorrupt(
                f"config.json calls for `{name}` of {list(pair.shape)}, "
                f"`{checkpoint.folder}` {found}"
            )
    return _Merge(checkpoint, pairs)


def _changed(weights: Float32, pair: LoraPair, first: int) -> Float32:
    """A few rows of a matrix as they will be; `first` is the number of the first one."""
    rows = slice(first, first + len(weights))
    with np.errstate(all="ignore"):
        changed: Float32 = weights + (pair.b[rows] @ pair.a) * np.float32(pair.scale)
        if pair.magnitude is not None:
            changed *= (pair.magnitude[rows] / np.linalg.norm(changed, axis=1))[:, None]
    return changed


def _to_gguf(merge: _Merge, target: Path, dtype: str, progress: ProgressFactory) -> int:
    conversion = plan_conversion(merge.checkpoint.folder, dtype=dtype, name=target.stem)
    names = {gguf_name(pair.module): name for name, pair in merge.pairs.items()}
    tensors = [
        replace(planned, chunks=partial(merge.rows, names[planned.name]))
        if planned.name in names
        else planned
        for planned in conversion.tensors
    ]
    require_space(target.parent, conversion.n_bytes, purpose="the merged model")
    with progress(f"Merging into {target.name}", total=conversion.n_bytes) as advance:
        write_gguf(
            target,
            architecture=qwen3.ARCHITECTURE,
            metadata=conversion.metadata,
            tensors=tensors,
            advance=advance,
        )
    return conversion.n_bytes


def _to_folder(merge: _Merge, target: Path, dtype: str, progress: ProgressFactory) -> int:
    if dtype not in ("auto", *FOLDER_DTYPES):
        raise InvalidSettings(
            f"safetensors can't be written as `{dtype}`",
            hint=f"one of auto, {', '.join(FOLDER_DTYPES)}; or end the target in .gguf",
        )
    wanted = FOLDER_DTYPES.get(dtype)
    files: dict[Path, list[TensorToWrite]] = {file: [] for file in merge.checkpoint.files}
    for stored in sorted(merge.checkpoint.tensors.values(), key=lambda tensor: tensor.start):
        files[stored.path].append(_planned(merge, stored, wanted))
    n_bytes = sum(tensor.n_bytes for tensors in files.values() for tensor in tensors)
    require_space(target.parent, n_bytes, purpose="the merged model")
    with (
        atomic_folder(target) as folder,
        progress(f"Merging into {target.name}", total=n_bytes) as advance,
    ):
        _write_weights(files, folder, advance)
        _write_companions(merge.checkpoint.folder, folder, wanted, n_bytes)
    return n_bytes


def _planned(merge: _Merge, stored: StoredTensor, wanted: str | None) -> TensorToWrite:
    is_float = stored.dtype in (*_TORCH_NAMES, "F64")
    dtype = wanted if wanted and is_float else stored.dtype

    def chunks() -> Iterator[NDArray[Any]]:
        if stored.name in merge.pairs:
            yield from (encode_as(rows, dtype) for rows in merge.rows(stored.name))
        elif dtype == stored.dtype:
            yield from _raw(stored)
        else:
            for rows in stored.chunks():
                yield encode_as(to_float32(rows, stored.dtype), dtype)

    return TensorToWrite(stored.name, dtype, stored.shape, chunks)


def _raw(stored: StoredTensor) -> Iterator[NDArray[Any]]:
    """A tensor's bytes as they lie there, whatever they mean."""
    with stored.path.open("rb") as file:
        file.seek(stored.start)
        left = stored.n_bytes
        while left:
            data = np.fromfile(file, dtype=np.uint8, count=min(left, CHUNK_BYTES))
            if not data.size:
                raise ModelCorrupt(f"`{stored.path}` ends inside the tensor `{stored.name}`")
            left -= data.size
            yield data


def _write_weights(files: dict[Path, list[TensorToWrite]], folder: Path, advance: Advance) -> None:
    for file, tensors in files.items():
        write_safetensors(folder / file.name, tensors, advance)


def _write_companions(base: Path, folder: Path, dtype: str | None, n_bytes: int) -> None:
    for path in sorted(base.iterdir()):
        goes_along = path.suffix in _COMPANIONS or path.name in _LICENCES
        if goes_along and path.is_file() and path.name != INDEX_NAME:
            shutil.copyfile(path, folder / path.name)
    if dtype is not None:
        config = read_json(base / "config.json")
        named = {key: _TORCH_NAMES[dtype] for key in ("dtype", "torch_dtype") if key in config}
        _write_json(folder / "config.json", config | named)
    if (base / INDEX_NAME).exists():
        index = read_json(base / INDEX_NAME)
        _write_json(folder / INDEX_NAME, index | {"metadata": {"total_size": n_bytes}})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
