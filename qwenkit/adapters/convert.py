"""One call from an adapter of any format to a file of the one that a runtime wants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qwenkit.adapters.base import BaseShapes, check_fit
from qwenkit.adapters.check import Difference, check_adapter
from qwenkit.adapters.prepare import SUFFIXES, AdapterFormat, write_adapter
from qwenkit.adapters.read import read_adapter, require_servable
from qwenkit.errors import InvalidSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedAdapter:
    """What was written.

    Args:
        path: The file.
        format: Which runtime it is for.
        version: Short hash of the source's content.
        rank: Its largest rank.
        alpha: As the source was configured; 0 where that is not known.
        targets: Kinds of matrices it changes (`q_proj`).
        n_params: Numbers in it.
        size_bytes: Size of the file.
        check: How it differs from its source; None when that was not asked for.
    """

    path: Path
    format: AdapterFormat
    version: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    n_params: int
    size_bytes: int
    check: Difference | None


def convert_adapter(
    source: Path,
    target: Path,
    *,
    format: AdapterFormat | None = None,  # noqa: A002
    base: BaseShapes | None = None,
    check: bool = False,
) -> ConvertedAdapter:
    """Convert an adapter: a PEFT folder, a `.gguf` or an `.onnx_adapter`.

    Args:
        source: What to convert.
        target: The file to write; it appears whole or not at all.
        format: What to write; by the target's suffix when None.
        base: The model that it must fit. An `.onnx_adapter` can't be written without.
        check: Read the file back and compare.

    Raises:
        ModelError: The source can't be used, or doesn't fit the base.
        InvalidSettings: No format, or no base where one is needed.
        MissingExtra: An `.onnx_adapter` is to be written and onnxruntime isn't there.
    """
    kind = format or _by_suffix(target)
    if target.is_dir():
        raise InvalidSettings(f"`{target}` is a folder", hint="name the file to write")
    lora = read_adapter(source, base)
    require_servable(lora)
    if base is not None:
        check_fit(lora, base)
    write_adapter(lora, target, kind=kind, base=base)
    written_for = base if kind == "onnx" else None
    return ConvertedAdapter(
        path=target,
        format=kind,
        version=lora.version(),
        rank=lora.rank,
        alpha=lora.alpha,
        targets=lora.targets,
        n_params=lora.n_params,
        size_bytes=target.stat().st_size,
        check=check_adapter(target, lora, written_for) if check else None,
    )


def _by_suffix(target: Path) -> AdapterFormat:
    for kind, suffix in SUFFIXES.items():
        if target.suffix == suffix:
            return kind
    raise InvalidSettings(
        f"`{target}` doesn't say which format to write",
        hint=f"end it in {' or '.join(SUFFIXES.values())}, or set --format",
    )
