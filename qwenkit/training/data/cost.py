"""What a training run will take: memory by formula, time by a measured speed. Needs no torch.

    weights       numbers of the model times their width; NF4 takes 4.127 bits (QLoRA, arXiv
                  2305.14314, section 3, double quantisation)
    trained       what is trained in 32 bits, its gradient, and AdamW's two moments
    activations   what autograd keeps of each layer for the way back, counted tensor by tensor as
                  transformers' Qwen3 and PEFT's LoRA keep it (the tests compare with autograd);
                  with checkpointing each layer's input, and one layer whole (arXiv 1604.06174)
    logits        the cross-entropy holds three times a token's row over the vocabulary in 32 bits
    operations    2 a weight and token forward, twice that backward, of which LoRA saves the half
                  that would go into gradients of frozen weights (Kaplan et al., arXiv 2001.08361,
                  section 2.1); attention over whole rows, masked tokens too

Not counted: what torch and its libraries take by themselves, and what GRPO generates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from qwenkit.models import qwen3
from qwenkit.models.qwen3 import Qwen3Config

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices of a layer that LoRA can change."""

_NF4_BYTES = 4.127 / 8
_LOGITS_BYTES = 12
_PROBE_FACTOR = 1.3
_MATMUL_FACTOR = 4.0
_MATMUL_SIZE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a run computes, as far as its cost depends on it.

    Args:
        batch_size: Rows that are computed at once.
        accumulate: Such batches before the weights change.
        n_epochs: How often the data is gone through.
        n_steps: Changes of the weights, instead of `n_epochs`.
        row_length: Tokens of a packed row; None is without packing.
        precision: Number format of the model and of what is computed.
        rank: Of the LoRA; None trains every weight.
        targets: The matrices that the LoRA changes.
        dropout: Whether the LoRA drops inputs out.
        qlora: Whether frozen matrices are held in 4 bits.
        gradient_checkpointing: Whether layers are computed again on the way back.
    """

    batch_size: int = 1
    accumulate: int = 1
    n_epochs: float = 1.0
    n_steps: int | None = None
    row_length: int | None = None
    precision: Precision = "fp32"
    rank: int | None = 16
    targets: tuple[str, ...] = LINEARS
    dropout: bool = False
    qlora: bool = False
    gradient_checkpointing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that a step needs at its peak."""

    weights_bytes: int
    trained_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return (
            self.weights_bytes
            + self.trained_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.logits_bytes
        )


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast this machine is.

    Args:
        tokens_per_s: Of training, measured with a short run; or None.
        flops_per_s: Of one large matrix product, measured; used where there was no such run.
    """

    tokens_per_s: float | None = None
    flops_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a run takes.

    Args:
        seconds: The estimate.
        factor: It may well be so many times longer or shorter.
        measured_by: A short run of the training itself, or the rate of a matrix product.
    """

    seconds: float
    factor: float
    measured_by: Literal["probe", "matmul"]


def memory_of(config: Qwen3Config, plan: Plan, *, n_tokens: int) -> Memory:
    """Estimate a step's memory.

    Args:
        config: The model.
        plan: How it is trained.
        n_tokens: Tokens of a batch, padding included.
    """
    trained = _n_trained(config, plan)
    width = _width(plan)
    layer = _layer_bytes(config, plan)
    kept = config.n_layers * layer
    if plan.gradient_checkpointing:
        kept = config.n_layers * config.n_embd * width + layer
    return Memory(
        weights_bytes=_weights_bytes(config, plan),
        # A full training's weights are the model's own.
        trained_bytes=0 if plan.rank is None else 4 * trained,
        gradients_bytes=4 * trained,
        optimizer_bytes=8 * trained,
        activations_bytes=round(n_tokens * (kept + 12 * config.n_embd)),
        logits_bytes=n_tokens * config.n_vocab * _LOGITS_BYTES,
    )


def flops_of(config: Qwen3Config, plan: Plan, *, n_tokens: int, n_pairs: int) -> float:
    """Floating-point operations of training on a number of tokens.

    Args:
        config: The model.
        plan: How it is trained.
        n_tokens: Tokens that are computed, padding included.
        n_pairs: Pairs of tokens for which attention is computed: the sum of rows' squared lengths.
    """
    linear = 2.0 * n_tokens * _n_multiplied(config)
    attention = 4.0 * n_pairs * config.n_layers * config.n_heads * config.head_dim
    passes = 1 if plan.gradient_checkpointing else 0
    if plan.rank is None:
        return linear * (3 + passes) + attention * (3 + passes)
    lora = 6.0 * n_tokens * _n_trained(config, plan)
    return linear * (2 + passes) + attention * (3 + passes) + lora


def duration_of(
    config: Qwen3Config, plan: Plan, speed: Speed, *, n_tokens: int, n_pairs: int
) -> Duration | None:
    """Estimate how long training on a number of tokens takes; None without any measurement."""
    if speed.tokens_per_s:
        return Duration(n_tokens / speed.tokens_per_s, _PROBE_FACTOR, "probe")
    if speed.flops_per_s:
        flops = flops_of(config, plan, n_tokens=n_tokens, n_pairs=n_pairs)
        # A run reaches about half of the rate of one product: between products it adds and moves.
        return Duration(2 * flops / speed.flops_per_s, _MATMUL_FACTOR, "matmul")
    return None


def measure_matmul(
    product: Callable[[], object] | None = None,
    *,
    n_flops: float = 2.0 * _MATMUL_SIZE**3,
    n_times: int = 3,
) -> Speed:
    """Measure the rate of a matrix product.

    Args:
        product: Computes it, to the end; by default numpy does, in 32 bits on the CPU.
        n_flops: Operations of one.
        n_times: The best of so many counts.
    """
    multiply = product or _numpy_product()
    multiply()
    best = math.inf
    for _ in range(n_times):
        start = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - start)
    return Speed(flops_per_s=n_flops / best)


def _numpy_product() -> Callable[[], object]:
    a = np.ones((_MATMUL_SIZE, _MATMUL_SIZE), np.float32)
    return lambda: a @ a


def _width(plan: Plan) -> int:
    return 4 if plan.precision == "fp32" else 2


def _shapes(config: Qwen3Config) -> list[tuple[str, tuple[int, ...]]]:
    return [(tensor.hf_name, tensor.shape) for tensor in qwen3.expected_tensors(config)]


def _linear(name: str) -> str | None:
    """The kind of a layer's matrix by its tensor's name."""
    kind = name.removesuffix(".weight").rpartition(".")[2]
    return kind if kind in LINEARS else None


def _n_params(config: Qwen3Config) -> int:
    return sum(math.prod(shape) for _, shape in _shapes(config))


def _n_trained(config: Qwen3Config, plan: Plan) -> int:
    if plan.rank is None:
        return _n_params(config)
    targeted = [shape for name, shape in _shapes(config) if _linear(name) in plan.targets]
    return plan.rank * sum(map(sum, targeted))


def _n_multiplied(config: Qwen3Config) -> int:
    """Weights that a token is multiplied with; tied embeddings are, as the output's matrix."""
    layers = sum(math.prod(shape) for name, shape in _shapes(config) if _linear(name))
    return layers + config.n_vocab * config.n_embd


def _weights_bytes(config: Qwen3Config, plan: Plan) -> int:
    if not plan.qlora:
        return _width(plan) * _n_params(config)
    in_4_bits = sum(math.prod(shape) for name, shape in _shapes(config) if _linear(name))
    return round(_NF4_BYTES * in_4_bits) + 2 * (_n_params(config) - in_4_bits)


def _layer_bytes(config: Qwen3Config, plan: Plan) -> float:
    """What autograd keeps of one layer for one token."""
    n_query, n_kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    width = _width(plan)
    norms = 4 * (2 * config.n_embd + n_query + n_kv)
    attention = width * (2 * n_query + 2 * n_kv)
    gated = width * 3 * config.n_ff
    return norms + attention + gated + _inputs_bytes(config, plan, n_query, n_kv)


def _inputs_bytes(config: Qwen3Config, plan: Plan, n_query: int, n_kv: int) -> int:
    """Inputs of the matrices, which their gradients need."""
    if plan.rank is None:
        normed = 2 * config.n_embd + n_query + n_kv
        return _width(plan) * (2 * config.n_embd + config.n_ff + normed)
    n_in = {"o_proj": n_query, "down_proj": config.n_ff}
    widths = {target: n_in.get(target, config.n_embd) for target in plan.targets}
    low_rank = 4 * plan.rank * len(widths)
    if plan.dropout:  # each its own noise and its own product with it
        return low_rank + 8 * sum(widths.values())
    if _width(plan) < 4:  # each its own copy in the adapter's 32 bits
        return low_rank + 4 * sum(widths.values())
    # One norm's output is the input of several, and what attention gives is kept already.
    shared = {
        {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}.get(target, target)
        for target in widths
        if target != "o_proj"
    }
    return low_rank + 4 * sum(n_in.get(target, config.n_embd) for target in shared)
