"""The matrices of a model that adapters change, and whether an adapter fits them.

Reads headers and configuration only, never weights. Knows all three forms of a model: GGUF files,
folders of safetensors, and ONNX folders that were exported with LoRA slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qwenkit.adapters.lora import Lora, LoraPair
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelUnsupported
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.gguf_header import read_header, split_parts
from qwenkit.models.info import GENAI_CONFIG

IoType: TypeAlias = Literal["float32", "float16"]

EXPORT_FACTS = "qwenkit_export.json"
GGUF_LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""The matrices of a layer and llama.cpp's names for them."""

_HF_LINEARS = {gguf: hf for hf, gguf in GGUF_LINEARS.items()}


@dataclass(frozen=True, slots=True)
class LoraSlot:
    """The inputs of an exported graph that take one matrix's adapter.

    Args:
        a: Name of the input for A, `[in, rank]`.
        b: Name of the input for B, `[rank, out]`.
    """

    a: str
    b: str


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """What an adapter must fit.

    Args:
        name: What messages call the model.
        layers: Shape (out, in) of each matrix that can be changed, by transformers' name for it.
        slots: The graph's inputs for each of them; ONNX only.
        io_dtype: What those inputs take; ONNX only.
    """

    name: str
    layers: Mapping[str, tuple[int, int]] = field(repr=False)
    slots: Mapping[str, LoraSlot] = field(default_factory=dict, repr=False)
    io_dtype: IoType = "float32"


def gguf_name(module: str) -> str | None:
    """llama.cpp's name for a matrix, `blk.0.attn_q.weight`; None when adapters can't change it."""
    match module.split("."):
        case ["lm_head"]:
            return "output.weight"
        case ["model", "layers", layer, *rest] if layer.isdecimal():
            linear = GGUF_LINEARS.get(".".join(rest))
            return f"blk.{int(layer)}.{linear}.weight" if linear else None
    return None


def module_of(gguf_name: str) -> str | None:
    """transformers' name for a matrix of a GGUF file; None when adapters can't change it."""
    match gguf_name.split("."):
        case ["output", "weight"]:
            return "lm_head"
        case ["blk", layer, linear, "weight"] if layer.isdecimal() and linear in _HF_LINEARS:
            return f"model.layers.{int(layer)}.{_HF_LINEARS[linear]}"
    return None


def base_of(path: Path) -> BaseShapes:
    """The matrices of a model of any form: a GGUF file, safetensors, or an ONNX folder.

    Raises:
        ModelNotFound: Nothing there.
        ModelCorrupt: A header is damaged.
        ModelUnsupported: Not a dense Qwen3.
        AdapterUnsupported: An ONNX folder without LoRA slots.
    """
    if path.suffix == ".gguf":
        return base_of_gguf(path)
    if (path / GENAI_CONFIG).exists() or (path / EXPORT_FACTS).exists():
        return base_of_onnx(path)
    return base_of_checkpoint(path)


def base_of_gguf(path: Path) -> BaseShapes:
    """The matrices of a GGUF model; all parts of a split one are read.

    Raises:
        ModelNotFound: No such file, or a part is missing.
        ModelCorrupt: A header is damaged.
        ModelUnsupported: Not a dense Qwen3.
    """
    headers = [read_header(part) for part in split_parts(path)]
    architecture = headers[0].text("general.architecture")
    if architecture != qwen3.ARCHITECTURE:
        raise ModelUnsupported(
            f"`{path}` is a `{architecture}`; adapters are for dense Qwen3 models"
        )
    layers = {
        module: (tensor.shape[0], tensor.shape[1])
        for header in headers
        for tensor in header.tensors
        if (module := module_of(tensor.name)) is not None and len(tensor.shape) == 2
    }
    return BaseShapes(path.name, layers)


def base_of_checkpoint(folder: Path) -> BaseShapes:
    """The matrices of a folder of safetensors, by its config.json.

    Raises:
        ModelNotFound: It has none.
        ModelCorrupt: It is damaged.
        ModelUnsupported: Not a dense Qwen3.
    """
    config = qwen3.parse_config(read_json(folder / "config.json"))
    layers = {
        expected.hf_name.removesuffix(".weight"): (expected.shape[0], expected.shape[1])
        for expected in qwen3.expected_tensors(config)
        if len(expected.shape) == 2 and expected.hf_name != qwen3.EMBEDDING
    }
    return BaseShapes(folder.resolve().name, layers)


def base_of_onnx(folder: Path) -> BaseShapes:
    """The LoRA slots of an exported ONNX folder.

    Raises:
        AdapterUnsupported: It was exported without any.
        ModelCorrupt: Its record of them is damaged.
    """
    path = folder / EXPORT_FACTS
    facts = read_json(path) if path.exists() else {}
    if not facts.get("lora"):
        raise AdapterUnsupported(
            f"`{folder}` was exported without LoRA slots",
            hint="export it again with `qwenkit export-onnx`, without --no-lora",
        )
    layers, slots = {}, {}
    for entry in _entries(path, facts["lora"]):
        layers[entry["module"]] = (entry["out"], entry["in"])
        slots[entry["module"]] = LoraSlot(entry["a"], entry["b"])
    return BaseShapes(folder.resolve().name, layers, slots, _io_dtype(path, facts))


def check_fit(lora: Lora, base: BaseShapes) -> None:
    """Refuse an adapter that was made for another model.

    Raises:
        AdapterUnsupported: It changes a matrix that isn't there, or one of another shape.
    """
    for pair in lora.pairs:
        needed = base.layers.get(pair.module)
        if needed is None:
            raise AdapterUnsupported(_lacking(lora, pair, base))
        if pair.shape != needed:
            raise AdapterUnsupported(
                f"`{lora.source}` was made for another model: its `{pair.module}` is "
                f"{list(pair.shape)}, that of `{base.name}` is {list(needed)}"
            )


def _lacking(lora: Lora, pair: LoraPair, base: BaseShapes) -> str:
    if base.slots:
        return f"`{base.name}` was exported without a LoRA slot for `{pair.module}`"
    return f"`{lora.source}` changes `{pair.module}`, which `{base.name}` doesn't have"


def _entries(path: Path, value: Any) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        match entry:
            case {
                "module": str(),
                "a": str(),
                "b": str(),
                "in": int(n_in),
                "out": int(n_out),
            } if n_in > 0 and n_out > 0:
                pass
            case _:
                raise ModelCorrupt(f"`{path}` has a malformed LoRA slot: {entry!r}")
    return entries


def _io_dtype(path: Path, facts: dict[str, Any]) -> IoType:
    match facts.get("io_dtype", "float32"):
        case "float32":
            return "float32"
        case "float16":
            return "float16"
        case other:
            raise ModelCorrupt(f"`{path}` has the io_dtype {other!r}, not float32 or float16")
