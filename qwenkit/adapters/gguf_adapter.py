"""Adapters as llama.cpp reads them: A and B of each matrix in a GGUF file, and one alpha for all.

llama.cpp multiplies a pair with `alpha / rank`, by the rank of that pair; an alpha of 0 is a factor
of 1. Qwen3's matrices have the same rows in GGUF as in safetensors, so nothing is permuted.
Source: llama.cpp, src/llama-adapter.cpp and convert_lora_to_gguf.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType, LlamaFileType
from gguf.quants import dequantize
from numpy.typing import NDArray

from qwenkit.adapters.base import gguf_name, module_of
from qwenkit.adapters.lora import Float32, Lora, LoraPair, make_lora
from qwenkit.adapters.template_stamp import GGUF_KEY, checked_hash
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelError
from qwenkit.models import qwen3
from qwenkit.models.gguf_file import Metadata, PlannedTensor, write_gguf
from qwenkit.models.gguf_header import GgufHeader, GgufTensor, read_header

KIND = "adapter"
ALPHA = "adapter.lora.alpha"
INVOCATION = "adapter.alora.invocation_tokens"
# What llama.cpp's converter writes; others may end in an assertion when they are multiplied with.
_READABLE = (
    GGMLQuantizationType.F32,
    GGMLQuantizationType.F16,
    GGMLQuantizationType.BF16,
    GGMLQuantizationType.Q8_0,
)


def is_gguf_adapter(path: Path) -> bool:
    """Whether a GGUF file calls itself an adapter; also true of one that can't be read."""
    try:
        return read_header(path).text("general.type") == KIND
    except ModelError:
        return True


def read_gguf_adapter(path: Path) -> Lora:
    """Read an adapter from a GGUF file.

    Raises:
        ModelNotFound: No such file.
        ModelCorrupt: It is truncated or contradicts itself.
        AdapterUnsupported: Not a LoRA adapter, not for a dense Qwen3, or not plain matrices.
    """
    header = read_header(path)
    _check_kind(header)
    alpha = _alpha(header)
    parts: dict[str, dict[str, GgufTensor]] = {}
    for tensor in header.tensors:
        module, part = _place(path, tensor.name)
        parts.setdefault(module, {})[part] = tensor
    pairs = [_pair(header, module, found, alpha) for module, found in parts.items()]
    template_hash = checked_hash(path, header.metadata.get(GGUF_KEY))
    return make_lora(path, pairs, alpha, template_hash)


def write_gguf_adapter(lora: Lora, target: Path) -> None:
    """Write an adapter as a GGUF file of 32-bit floats, whole or not at all.

    Raises:
        AdapterUnsupported: It changes what a dense Qwen3 lacks, or its scales are too far apart
            for one alpha.
    """
    alpha = _common_alpha(lora)
    metadata = Metadata()
    metadata.string("general.type", KIND)
    metadata.string("adapter.type", "lora")
    metadata.string("general.name", lora.source.resolve().stem)
    metadata.uint("general.file_type", int(LlamaFileType.ALL_F32))
    metadata.float(ALPHA, alpha)
    if lora.template_hash is not None:
        metadata.string(GGUF_KEY, lora.template_hash)
    tensors = []
    for pair in lora.pairs:
        name = _name(lora, pair)
        tensors.append(_planned(f"{name}.lora_a", pair.a))
        tensors.append(_planned(f"{name}.lora_b", _rescaled(lora, pair, alpha)))
    write_gguf(
        target,
        architecture=qwen3.ARCHITECTURE,
        metadata=metadata,
        tensors=tensors,
        advance=lambda _: None,
    )


def _check_kind(header: GgufHeader) -> None:
    path = header.path
    for key, wanted in (("general.type", KIND), ("adapter.type", "lora")):
        found = header.text(key)
        if found != wanted:
            raise AdapterUnsupported(
                f"`{path}` is no LoRA adapter: its `{key}` is {found!r}, not {wanted!r}"
            )
    architecture = header.text("general.architecture")
    if architecture != qwen3.ARCHITECTURE:
        raise AdapterUnsupported(
            f"`{path}` is an adapter for a `{architecture}`, not for a dense Qwen3"
        )
    if header.metadata.get(INVOCATION):
        raise AdapterUnsupported(f"`{path}` works only from an invocation on (aLoRA)")
    if header.n_split > 1:
        raise AdapterUnsupported(f"`{path}` is split, which llama.cpp doesn't read")


def _alpha(header: GgufHeader) -> float:
    value = header.metadata.get(ALPHA, 0.0)
    if not isinstance(value, float) or not math.isfinite(value):
        raise ModelCorrupt(f"`{header.path}` has no valid `{ALPHA}`: {value!r}")
    return value


def _place(path: Path, name: str) -> tuple[str, str]:
    base, _, part = name.rpartition(".")
    module = module_of(base)
    if module is not None and part in ("lora_a", "lora_b"):
        return module, part
    if base == "token_embd.weight":
        raise AdapterUnsupported(
            f"`{path}`: `{name}` is a LoRA of the embeddings, which can't be applied"
        )
    raise AdapterUnsupported(f"`{path}`: `{name}` is not a tensor of a LoRA for a dense Qwen3")


def _pair(header: GgufHeader, module: str, found: dict[str, GgufTensor], alpha: float) -> LoraPair:
    for part in ("lora_a", "lora_b"):
        if part not in found:
            raise ModelCorrupt(
                f"`{header.path}`: `{next(iter(found.values())).name}` has no `{part}` beside it"
            )
    a, b = found["lora_a"], found["lora_b"]
    rank = b.shape[-1] if b.shape else 0
    return LoraPair(
        module=module,
        a=_numbers(header, a),
        b=_numbers(header, b),
        scale=alpha / rank if alpha and rank else 1.0,
        stored_as=f"gguf {a.type.name} {b.type.name}",
    )


def _numbers(header: GgufHeader, tensor: GgufTensor) -> Float32:
    if tensor.type not in _READABLE:
        raise AdapterUnsupported(
            f"`{header.path}`: `{tensor.name}` is stored as {tensor.type.name}; "
            f"{', '.join(kind.name for kind in _READABLE)} can be read"
        )
    with header.path.open("rb") as file:
        file.seek(header.data_offset + tensor.offset)
        raw = np.fromfile(file, dtype=np.uint8, count=tensor.n_bytes)
    if raw.size < tensor.n_bytes:
        raise ModelCorrupt(f"`{header.path}` ends inside the tensor `{tensor.name}`")
    if not raw.size:
        return np.zeros(tensor.shape, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        numbers: Float32 = dequantize(raw, tensor.type).astype(np.float32, copy=False)
    return numbers.reshape(tensor.shape)


def _name(lora: Lora, pair: LoraPair) -> str:
    name = gguf_name(pair.module)
    if name is None:
        raise AdapterUnsupported(
            f"`{lora.source}` changes `{pair.module}`, which a dense Qwen3 doesn't have"
        )
    return name


def _common_alpha(lora: Lora) -> float:
    """The alpha at which the largest pairs keep their B as it is."""
    weights: dict[float, int] = {}
    for pair in lora.pairs:
        alpha = pair.scale * pair.rank
        weights[alpha] = weights.get(alpha, 0) + pair.a.size + pair.b.size
    return max((alpha for alpha in weights if alpha), key=weights.__getitem__)


def _rescaled(lora: Lora, pair: LoraPair, alpha: float) -> Float32:
    factor = pair.scale * pair.rank / alpha
    with np.errstate(over="ignore"):
        scaled = pair.b * np.float32(factor)
    if not np.isfinite(scaled).all():
        raise AdapterUnsupported(f"`{lora.source}`: the scale of `{pair.module}` is too large")
    return scaled


def _planned(name: str, data: Float32) -> PlannedTensor:
    def chunks() -> Iterator[NDArray[Any]]:
        yield data

    return PlannedTensor(name, data.shape, GGMLQuantizationType.F32, chunks)
