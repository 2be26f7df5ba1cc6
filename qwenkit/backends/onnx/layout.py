"""What an ONNX Runtime GenAI folder says of itself: sizes, names of inputs, how it was exported.

Reads its JSON files and loads nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwenkit.adapters.base import EXPORT_FACTS
from qwenkit.errors import ModelCorrupt, ModelUnsupported, QwenkitError
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.info import GENAI_CONFIG, inspect_model

_TEXT_INPUTS = frozenset(
    ("input_ids", "attention_mask", "position_ids", "past_key_names", "past_value_names")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """An exported model.

    Args:
        folder: Where it lies.
        graph: Its `.onnx` file.
        architecture: Such as `qwen3`.
        precision: How it was exported (`int4`); empty where that is not written down.
        n_params: Parameters; 0 where that is not written down.
        size_bytes: Size of the weights.
        n_layers: Layers.
        n_kv_heads: Heads of the KV cache.
        head_dim: Numbers in a head.
        n_embd: Numbers in a hidden state.
        n_vocab: Columns of the logits.
        n_ctx: Tokens of context the graph was made for; it can't hold more.
        yarn_factor: How far YaRN stretches its positions; 1 where that is not written down.
        kv_dtype: Number format of the KV cache, as far as it is known without the graph.
        gives_hidden_states: Whether it says that the graph does.
        has_slots: Whether it was exported with LoRA slots.
        special_ids: Ids of `bos`, `eos` and `pad`.
        inputs: Names of the graph's inputs; those of the cache with `%d` for the layer.
        outputs: Names of its outputs.
        unknown: What the direct session doesn't know of it; empty where it knows all.
    """

    folder: Path
    graph: Path
    architecture: str
    precision: str
    n_params: int
    size_bytes: int
    n_layers: int
    n_kv_heads: int
    head_dim: int
    n_embd: int
    n_vocab: int
    n_ctx: int
    yarn_factor: float
    kv_dtype: str
    gives_hidden_states: bool
    has_slots: bool
    special_ids: dict[str, int]
    inputs: dict[str, str] = field(repr=False)
    outputs: dict[str, str] = field(repr=False)
    unknown: str

    @property
    def description(self) -> str:
        """One line for people: `qwen3 0.6B int4`."""
        size = _in_units(self.n_params) if self.n_params else ""
        return " ".join(part for part in (self.architecture, size, self.precision) if part)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache a token takes."""
        width = 2 if self.kv_dtype == "float16" else 4
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * width


def read_layout(folder: Path) -> Layout:
    """Read what a folder says of itself.

    Raises:
        ModelNotFound: It has no `genai_config.json`.
        ModelCorrupt: A file of it is missing, damaged or contradicts another.
        ModelUnsupported: No decoder-only language model.
    """
    info = inspect_model(folder)
    config = read_json(folder / GENAI_CONFIG)
    facts_path = folder / EXPORT_FACTS
    facts = read_json(facts_path) if facts_path.exists() else {}
    model = config["model"]
    if "encoder" in model or "vision" in model or "speech" in model:
        raise ModelUnsupported(f"`{folder}` is no decoder-only language model")
    try:
        return _layout(folder, info.size_bytes, config, facts)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ModelCorrupt(f"`{folder / GENAI_CONFIG}` lacks or garbles {exc}") from exc


def _layout(folder: Path, size_bytes: int, config: dict[str, Any], facts: dict[str, Any]) -> Layout:
    model = config["model"]
    decoder = model["decoder"]
    return Layout(
        folder=folder,
        graph=folder / str(decoder["filename"]),
        architecture=str(model["type"]),
        precision=str(facts.get("options", {}).get("precision", "")),
        n_params=_n_params(folder),
        size_bytes=size_bytes,
        n_layers=int(decoder["num_hidden_layers"]),
        n_kv_heads=int(decoder["num_key_value_heads"]),
        head_dim=int(decoder["head_size"]),
        n_embd=int(decoder["hidden_size"]),
        n_vocab=int(model["vocab_size"]),
        n_ctx=int(model["context_length"]),
        yarn_factor=float(facts.get("rope_scaling", {}).get("factor", 1)),
        kv_dtype=str(facts.get("io_dtype", "float32")),
        gives_hidden_states=bool(facts.get("hidden_states", False)),
        has_slots=bool(facts.get("lora")),
        special_ids=_special_ids(model),
        inputs={key: str(name) for key, name in decoder["inputs"].items()},
        outputs={key: str(name) for key, name in decoder["outputs"].items()},
        unknown=_unknown(config, decoder),
    )


def _unknown(config: dict[str, Any], decoder: dict[str, Any]) -> str:
    if not config.get("search", {}).get("past_present_share_buffer", False):
        return "its attention makes a new KV cache in every step"
    if decoder.get("sliding_window"):
        return "it has sliding-window attention"
    if "pipeline" in decoder:
        return "it is several graphs"
    others = sorted(decoder["inputs"].keys() - _TEXT_INPUTS)
    return f"its graph has the input `{others[0]}`" if others else ""


def _special_ids(model: dict[str, Any]) -> dict[str, int]:
    ids = {}
    for kind in ("bos", "eos", "pad"):
        value = model.get(f"{kind}_token_id")
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, int):
            ids[kind] = first
    return ids


def _n_params(folder: Path) -> int:
    """Counted from the configuration of what was exported, where it lies there too."""
    if not (folder / "config.json").exists():
        return 0
    try:
        config = qwen3.parse_config(read_json(folder / "config.json"))
    except QwenkitError:  # it is there for people, and of a kind that can't be counted
        return 0
    return sum(math.prod(tensor.shape) for tensor in qwen3.expected_tensors(config))


def _in_units(n_params: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if n_params >= size:
            return f"{n_params / size:.1f}{unit}"
    return str(n_params)
