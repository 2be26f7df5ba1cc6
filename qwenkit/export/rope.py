"""How positions turn queries and keys in an exported graph: the context, its stretching by YaRN,
and the tables of cosines and sines.

Pure numpy. The tables are made here because onnxruntime-genai's builder has a YaRN of its own,
which doesn't round the ramp's ends and knows no attention factor: other numbers than transformers'.
Source: YaRN (Peng et al., 2023, arXiv:2309.00071) as in transformers' modeling_rope_utils.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qwenkit.errors import InvalidSettings
from qwenkit.models.qwen3 import Qwen3Config, native_ctx

Float32: TypeAlias = NDArray[np.float32]

_BETA_FAST, _BETA_SLOW = 32.0, 1.0
# What of a checkpoint's YaRN holds whatever its factor; its `attention_factor` is for that one.
_RAMP = ("beta_fast", "beta_slow", "truncate", "mscale", "mscale_all_dim")
_CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Context:
    """How long a context the graph is for, and how its positions are scaled.

    Args:
        n_ctx: Tokens.
        scaling: transformers' rope parameters; empty without any scaling.
    """

    n_ctx: int
    scaling: dict[str, Any] = field(default_factory=dict)

    @property
    def yarn_factor(self) -> float:
        """How far YaRN stretches the native context; 1 is not at all."""
        return float(self.scaling["factor"]) if self.scaling.get("type") == "yarn" else 1.0


def plan_context(config: Qwen3Config, n_ctx: int | None) -> Context:
    """Decide how to reach `n_ctx` tokens; None keeps the checkpoint's own context and scaling.

    Raises:
        InvalidSettings: The checkpoint is scaled in a way that can't be taken further.
    """
    own = config.rope_scaling
    if n_ctx is None:
        return Context(config.n_ctx, own)
    if own and n_ctx <= config.n_ctx:
        return Context(n_ctx, own)
    if own and own["type"] != "yarn":
        raise InvalidSettings(
            f"the checkpoint's context of {config.n_ctx} tokens is scaled by `{own['type']}`, "
            "which YaRN can't take further",
            hint=f"--n-ctx {config.n_ctx}",
        )
    native = own.get("original_max_position_embeddings") or native_ctx(config.n_ctx)
    if n_ctx <= native:
        return Context(n_ctx)
    if own and n_ctx <= own["factor"] * native:
        return Context(n_ctx, own)
    scaling: dict[str, Any] = {key: own[key] for key in _RAMP if key in own}
    scaling |= {"type": "yarn", "factor": float(math.ceil(n_ctx / native))}
    return Context(n_ctx, scaling | {"original_max_position_embeddings": native})


def stretched_config(config: dict[str, Any], context: Context) -> dict[str, Any]:
    """A `config.json` that says what the graph computes, in the spelling that it has already."""
    stretched = config | {"max_position_embeddings": context.n_ctx}
    rope = {key: value for key, value in context.scaling.items() if key != "type"}
    if context.scaling:
        rope["rope_type"] = context.scaling["type"]
    if "rope_parameters" in config:
        own = config["rope_parameters"] or {}
        own = own.get("full_attention", own)  # spelled for each kind of layer
        theta = own.get("rope_theta", config.get("rope_theta"))
        stretched["rope_parameters"] = {"rope_type": "default", "rope_theta": theta} | rope
        stretched.pop("rope_scaling", None)
    else:
        stretched["rope_scaling"] = rope or None
    return stretched


def rope_tables(config: Qwen3Config, context: Context) -> tuple[Float32, Float32]:
    """Cosines and sines, [n_ctx, head_dim / 2] each, rounded where transformers rounds."""
    frequencies, magnitude = _frequencies(config, context.scaling)
    shape = (context.n_ctx, len(frequencies))
    cos, sin = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for first in range(0, context.n_ctx, _CHUNK):
        rows = slice(first, min(first + _CHUNK, context.n_ctx))
        positions = np.arange(rows.start, rows.stop, dtype=np.float32)
        angles = np.outer(positions, frequencies).astype(np.float64)
        cos[rows], sin[rows] = magnitude * np.cos(angles), magnitude * np.sin(angles)
    return cos, sin


def _frequencies(config: Qwen3Config, scaling: dict[str, Any]) -> tuple[Float32, float]:
    dim = config.head_dim
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    periods = np.power(np.float32(config.rope_theta), exponents)
    plain = np.float32(1) / periods
    if not scaling:
        return plain, 1.0
    stretched = np.float32(1) / (np.float32(scaling["factor"]) * periods)
    if scaling["type"] == "linear":
        return stretched, 1.0
    keep = np.float32(1) - _ramp(config, scaling)
    return stretched * (np.float32(1) - keep) + plain * keep, _magnitude(scaling)


def _ramp(config: Qwen3Config, scaling: dict[str, Any]) -> Float32:
    """0 where a dimension turns so often that it needs no stretching, 1 where it gets all of it."""
    dim, original = config.head_dim, scaling["original_max_position_embeddings"]

    def dimension(n_turns: float) -> float:
        turns = math.log(original / (n_turns * 2 * math.pi))
        return dim * turns / (2 * math.log(config.rope_theta))

    low = dimension(scaling.get("beta_fast") or _BETA_FAST)
    high = dimension(scaling.get("beta_slow") or _BETA_SLOW)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = (np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
    return np.asarray(np.clip(ramp, 0, 1))


def _magnitude(scaling: dict[str, Any]) -> float:
    given = scaling.get("attention_factor")
    if given is not None:
        return float(given)
    mscale, all_dim = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if mscale and all_dim:
        return _mscale(scaling, mscale) / _mscale(scaling, all_dim)
    return _mscale(scaling, 1.0)


def _mscale(scaling: dict[str, Any], weight: float) -> float:
    factor = scaling["factor"]
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0
