"""From what a user names to a file that the runtime loads, checked against the model.

A source in the runtime's own format is used where it lies; anything else is converted into a cache,
once for each content, whole or not at all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from qwenkit.adapters.base import BaseShapes, check_fit
from qwenkit.adapters.gguf_adapter import write_gguf_adapter
from qwenkit.adapters.lora import Lora
from qwenkit.adapters.onnx_adapter import is_written_for, write_onnx_adapter
from qwenkit.adapters.read import ONNX_SUFFIX, read_adapter, require_servable
from qwenkit.errors import InvalidSettings
from qwenkit.models.atomic import exclusive

AdapterFormat: TypeAlias = Literal["gguf", "onnx"]

ADAPTERS = "adapters"
# Part of the key of converted adapters: a new number converts everything again.
CONVERTER_VERSION = "1"
SUFFIXES: dict[AdapterFormat, str] = {"gguf": ".gguf", "onnx": ONNX_SUFFIX}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedAdapter:
    """An adapter that fits the model and lies on disk in the runtime's format.

    Args:
        path: The file to load: `.gguf` or `.onnx_adapter`.
        source: What the user named: a PEFT folder or an adapter's file.
        version: Short hash of the source's content, wherever it lies.
        rank: Its largest rank.
        alpha: As it was configured; 0 where that is not known.
        targets: Kinds of matrices it changes (`q_proj`).
        n_params: Numbers in it.
        size_bytes: Size of the file to load.
        template_hash: Of the chat template that it was trained with; None where that is not known.
    """

    path: Path
    source: Path
    version: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    n_params: int
    size_bytes: int
    template_hash: str | None = None


def prepare_adapter(
    source: Path,
    *,
    format: AdapterFormat,  # noqa: A002
    base: BaseShapes,
    home: Path,
) -> PreparedAdapter:
    """Check an adapter against a model and give the runtime a file of its own format.

    Args:
        source: A PEFT folder, an adapter in a `.gguf`, or an `.onnx_adapter`.
        format: What the runtime loads.
        base: The model it will be loaded into.
        home: Converted adapters are kept in `home/adapters`.

    Raises:
        ModelNotFound: Nothing there.
        ModelCorrupt: A file is truncated, damaged or contradicts itself.
        AdapterUnsupported: A kind that can't be served, or made for another model.
        MissingExtra: An `.onnx_adapter` is to be written and onnxruntime isn't there.
    """
    lora = read_adapter(source, base)
    require_servable(lora)
    check_fit(lora, base)
    version = lora.version()
    path = source
    if not _loads_as_it_is(lora, format, base):
        path = _converted(lora, version, format, base, home.expanduser() / ADAPTERS)
    return PreparedAdapter(
        path=path,
        source=source,
        version=version,
        rank=lora.rank,
        alpha=lora.alpha,
        targets=lora.targets,
        n_params=lora.n_params,
        size_bytes=path.stat().st_size,
        template_hash=lora.template_hash,
    )


def write_adapter(
    lora: Lora, target: Path, *, kind: AdapterFormat, base: BaseShapes | None
) -> None:
    """Write an adapter in a runtime's format, whole or not at all.

    Raises:
        AdapterUnsupported: Its numbers don't fit the number format.
        InvalidSettings: An `.onnx_adapter` is to be written and there is no base with slots.
        MissingExtra: An `.onnx_adapter` is to be written and onnxruntime isn't there.
    """
    if kind == "gguf":
        write_gguf_adapter(lora, target)
    elif base is None or not base.slots:
        raise InvalidSettings(
            "an .onnx_adapter is made for one exported model",
            hint="name its ONNX folder as the base",
        )
    else:
        write_onnx_adapter(lora, target, base)


def _loads_as_it_is(lora: Lora, kind: AdapterFormat, base: BaseShapes) -> bool:
    if lora.source.suffix != SUFFIXES[kind]:
        return False
    return kind == "gguf" or is_written_for(lora.source, base)


def _converted(
    lora: Lora, version: str, kind: AdapterFormat, base: BaseShapes, folder: Path
) -> Path:
    target = folder / f"{version}-{_key(kind, base, lora.template_hash)}{SUFFIXES[kind]}"
    if not target.exists():
        with exclusive(folder):
            # Another process may have made it while this one waited.
            if not target.exists():
                write_adapter(lora, target, kind=kind, base=base)
    return target


def _key(kind: AdapterFormat, base: BaseShapes, template_hash: str | None) -> str:
    """What a converted file depends on beside the numbers in the adapter."""
    parts = [CONVERTER_VERSION]
    if template_hash is not None:
        parts.append(template_hash)
    if kind == "onnx":
        parts += [base.io_dtype, *(f"{s.a}={s.b}" for _, s in sorted(base.slots.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
