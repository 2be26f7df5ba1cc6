"""How much disk an export takes, so that a full one is refused before the work. Pure."""

from __future__ import annotations

from qwenkit.export.options import ExportOptions
from qwenkit.export.rope import Context
from qwenkit.models.qwen3 import Qwen3Config

OTHER_BYTES = 16 * 2**20
"""Room for the graph and the tokenizer."""


def export_bytes(config: Qwen3Config, context: Context, options: ExportOptions) -> int:
    """Bytes of the exported folder."""
    float_bytes = 2 if options.io_dtype == "float16" else 4
    head = config.n_vocab * config.n_embd
    matrices = _n_weights(config) * _weight_bytes(options, float_bytes)
    embedding = 0 if _shares(config, options) else head * float_bytes
    tables = context.n_ctx * config.head_dim * float_bytes
    return int(matrices + embedding + tables) + OTHER_BYTES


def scratch_bytes(config: Qwen3Config, options: ExportOptions, *, merged_bytes: int) -> int:
    """Bytes of what lies on the disk meanwhile: merged weights, and the graph that is traced."""
    if options.precision == "fp32":
        merged_bytes *= 2
    if options.exporter == "builder":
        return merged_bytes
    return merged_bytes + 4 * (_n_weights(config) + config.n_vocab * config.n_embd)


def _n_weights(config: Qwen3Config) -> int:
    """Weights of all products, the head's among them."""
    width = config.n_heads * config.head_dim
    kv_width = config.n_kv_heads * config.head_dim
    layer = config.n_embd * (2 * width + 2 * kv_width + 3 * config.n_ff)
    return config.n_layers * layer + config.n_vocab * config.n_embd


def _weight_bytes(options: ExportOptions, float_bytes: int) -> float:
    if options.bits is None:
        return float_bytes
    zero_points = 0.0 if options.symmetric else options.bits / 8
    return options.bits / 8 + (float_bytes + zero_points) / options.block_size


def _shares(config: Qwen3Config, options: ExportOptions) -> bool:
    # On CUDA the builder looks rows up in 4-bit matrices and in floats, not in 8-bit ones.
    if not config.tied or options.exporter == "optimum":
        return False
    return options.provider == "cpu" or options.precision != "int8"
