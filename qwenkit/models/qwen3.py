"""What makes a checkpoint a Qwen3: its configuration, its tensors, and llama.cpp's names for both.

Pure: values in, values out. Source of the names: llama.cpp's conversion/qwen.py and base.py, and
transformers' Qwen3Config in the spellings of versions 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qwenkit.errors import ModelCorrupt, ModelUnsupported
from qwenkit.models.gguf_file import Metadata

ARCHITECTURE = "qwen3"
HF_ARCHITECTURE = "Qwen3ForCausalLM"
DEFAULT_HEAD_DIM = 128
EMBEDDING = "model.embed_tokens.weight"
OUTPUT = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Qwen3Config:
    """The sizes and constants of a dense Qwen3 model."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocab: int
    n_ctx: int
    rms_eps: float
    rope_theta: float
    tied: bool
    rope_scaling: dict[str, Any] = field(default_factory=dict)
    special_ids: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExpectedTensor:
    """A tensor that the configuration calls for."""

    hf_name: str
    gguf_name: str
    shape: tuple[int, ...]


def native_ctx(stated: int) -> int:
    """Tokens of context without stretching, of what config.json states.

    Qwen3 says 40960: a context of 32768 and 8192 for the answer. YaRN stretches the 32768 (the
    model card's `original_max_position_embeddings`).
    """
    return 32768 if stated == 40960 else stated


def parse_config(config: dict[str, Any]) -> Qwen3Config:
    """Read config.json.

    Raises:
        ModelUnsupported: Another architecture, or a feature that llama.cpp's Qwen3 lacks.
        ModelCorrupt: A number is missing or not one.
    """
    _refuse_unsupported(config)
    return Qwen3Config(
        n_layers=_count(config, "num_hidden_layers"),
        n_embd=_count(config, "hidden_size"),
        n_ff=_count(config, "intermediate_size"),
        n_heads=_count(config, "num_attention_heads"),
        n_kv_heads=_count(config, "num_key_value_heads", config.get("num_attention_heads")),
        head_dim=_count(config, "head_dim", DEFAULT_HEAD_DIM),
        n_vocab=_count(config, "vocab_size"),
        n_ctx=_count(config, "max_position_embeddings"),
        rms_eps=_number(config, "rms_norm_eps"),
        rope_theta=_number(config | _rope(config), "rope_theta"),
        tied=bool(config.get("tie_word_embeddings", False)),
        rope_scaling=_rope_scaling(config),
        special_ids=_special_ids(config),
    )


def expected_tensors(config: Qwen3Config) -> list[ExpectedTensor]:
    """Every tensor of the model, in the order in which they are written."""
    outer = [ExpectedTensor(EMBEDDING, "token_embd.weight", (config.n_vocab, config.n_embd))]
    if not config.tied:
        outer.append(ExpectedTensor(OUTPUT, "output.weight", (config.n_vocab, config.n_embd)))
    outer.append(ExpectedTensor("model.norm.weight", "output_norm.weight", (config.n_embd,)))
    inner = [
        ExpectedTensor(f"model.layers.{i}.{hf}.weight", f"blk.{i}.{gguf}.weight", shape)
        for i in range(config.n_layers)
        for hf, gguf, shape in _layer_tensors(config)
    ]
    return outer + inner


def add_metadata(data: Metadata, config: Qwen3Config) -> None:
    """Add the architecture's keys."""
    data.uint("qwen3.block_count", config.n_layers)
    data.uint("qwen3.context_length", config.n_ctx)
    data.uint("qwen3.embedding_length", config.n_embd)
    data.uint("qwen3.feed_forward_length", config.n_ff)
    data.uint("qwen3.attention.head_count", config.n_heads)
    data.uint("qwen3.attention.head_count_kv", config.n_kv_heads)
    data.uint("qwen3.attention.key_length", config.head_dim)
    data.uint("qwen3.attention.value_length", config.head_dim)
    data.float("qwen3.attention.layer_norm_rms_epsilon", config.rms_eps)
    data.float("qwen3.rope.freq_base", config.rope_theta)
    _add_rope_scaling(data, config.rope_scaling)


def _layer_tensors(config: Qwen3Config) -> list[tuple[str, str, tuple[int, ...]]]:
    n_embd, n_ff, head = config.n_embd, config.n_ff, config.head_dim
    n_query, n_kv = config.n_heads * head, config.n_kv_heads * head
    return [
        ("input_layernorm", "attn_norm", (n_embd,)),
        ("self_attn.q_proj", "attn_q", (n_query, n_embd)),
        ("self_attn.k_proj", "attn_k", (n_kv, n_embd)),
        ("self_attn.v_proj", "attn_v", (n_kv, n_embd)),
        ("self_attn.o_proj", "attn_output", (n_embd, n_query)),
        ("self_attn.q_norm", "attn_q_norm", (head,)),
        ("self_attn.k_norm", "attn_k_norm", (head,)),
        ("post_attention_layernorm", "ffn_norm", (n_embd,)),
        ("mlp.gate_proj", "ffn_gate", (n_ff, n_embd)),
        ("mlp.up_proj", "ffn_up", (n_ff, n_embd)),
        ("mlp.down_proj", "ffn_down", (n_embd, n_ff)),
    ]


def _refuse_unsupported(config: dict[str, Any]) -> None:
    architectures = config.get("architectures") or [HF_ARCHITECTURE]
    if config.get("model_type") != ARCHITECTURE or HF_ARCHITECTURE not in architectures:
        found = ", ".join(map(str, architectures)) if config.get("architectures") else "unknown"
        raise ModelUnsupported(
            f"the checkpoint is a {found} (`{config.get('model_type')}`), "
            f"only {HF_ARCHITECTURE} can be converted",
            hint="take a GGUF file of this model instead",
        )
    activation = config.get("hidden_act", "silu")
    for reason, found in {
        "has biases in its attention": config.get("attention_bias", False),
        "is quantised already": config.get("quantization_config"),
        "uses sliding-window attention": _slides(config),
        f"uses the activation `{activation}`": activation != "silu",
        "turns only a part of each head": config.get("partial_rotary_factor", 1) != 1,
    }.items():
        if found:
            raise ModelUnsupported(f"the checkpoint {reason}, which can't be converted")


def _slides(config: dict[str, Any]) -> bool:
    if "layer_types" in config and config["layer_types"] is not None:
        return "sliding_attention" in config["layer_types"]
    first = config.get("max_window_layers", 0)
    return bool(
        config.get("use_sliding_window")
        and config.get("sliding_window")
        and first < config.get("num_hidden_layers", 0)
    )


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    # transformers 5 keeps all of it in `rope_parameters`, perhaps once a kind of layer;
    # 4 has `rope_scaling`, and `rope_theta` beside it.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise ModelCorrupt(f"config.json has no valid rope parameters: {rope!r}")
    return dict(rope.get("full_attention", rope))


def _rope_scaling(config: dict[str, Any]) -> dict[str, Any]:
    rope = _rope(config)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return {}
    if kind not in ("linear", "yarn"):
        raise ModelUnsupported(f"the checkpoint scales its context by `{kind}`, not yarn or linear")
    scaling = {key: value for key, value in rope.items() if value is not None}
    scaling |= {"type": kind, "factor": _number(rope, "factor")}
    key = "original_max_position_embeddings"
    n_original = _count(config | scaling, key, config.get("max_position_embeddings"))
    return scaling | {key: n_original}


def _add_rope_scaling(data: Metadata, scaling: dict[str, Any]) -> None:
    if not scaling:
        return
    data.string("qwen3.rope.scaling.type", scaling["type"])
    data.float("qwen3.rope.scaling.factor", scaling["factor"])
    if scaling["type"] == "linear":
        return
    original = scaling["original_max_position_embeddings"]
    data.uint("qwen3.rope.scaling.original_context_length", original)
    attention = scaling.get("attention_factor", scaling.get("attn_factor"))
    for key, value in {
        "yarn_ext_factor": scaling.get("extrapolation_factor"),
        "yarn_attn_factor": attention,
        "yarn_beta_fast": scaling.get("beta_fast"),
        "yarn_beta_slow": scaling.get("beta_slow"),
    }.items():
        if value is not None:
            data.float(f"qwen3.rope.scaling.{key}", value)


def _special_ids(config: dict[str, Any]) -> dict[str, int]:
    ids = {}
    for kind in ("bos", "eos", "pad"):
        value = config.get(f"{kind}_token_id")
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, int):
            ids[kind] = first
    return ids


def _count(config: dict[str, Any], key: str, default: Any = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ModelCorrupt(f"config.json has no valid `{key}`: {value!r}")
    return value


def _number(config: dict[str, Any], key: str) -> float:
    value = config.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ModelCorrupt(f"config.json has no valid `{key}`: {value!r}")
    return float(value)
