"""Whether Qwen3-8B fits a machine, and how to run it best. Arithmetic over bytes."""

from __future__ import annotations

from dataclasses import dataclass

N_PARAMETERS = 8_190_735_360
"""Of Qwen3-8B."""
KV_BYTES_PER_TOKEN = 2 * 36 * 8 * 128 * 2
"""Keys and values of 36 layers with 8 heads of 128, at 16 bits: 144 KiB."""
N_CTX = 32_768
COMPUTE_BYTES = 512 * 2**20
"""What computing needs beside weights and cache, about."""
BITS_PER_WEIGHT = {"Q4_K_M": 4.91, "Q8_0": 8.51, "F16": 16.0}
USABLE = 0.9
"""The share of free memory that a model may take; the rest is the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One number format of Qwen3-8B on one machine.

    Args:
        quant: The format.
        weights_bytes: What the weights take.
        total_bytes: Weights, a KV cache for the whole context, and room to compute.
        fits: Whether that is there.
        n_ctx_max: The longest context there is room for, up to the model's own.
    """

    quant: str
    weights_bytes: int
    total_bytes: int
    fits: bool
    n_ctx_max: int


def fits(memory_bytes: int) -> list[Fit]:
    """How Qwen3-8B fits into so much free memory, the smallest format first."""
    return [_fit(quant, memory_bytes) for quant in BITS_PER_WEIGHT]


def suggestion(memory_bytes: int, gpu_bytes: int) -> str:
    """The command that serves Qwen3-8B best on a machine.

    Args:
        memory_bytes: Free main memory.
        gpu_bytes: Free memory of its largest GPU that the runtime can use; 0 without one.
    """
    serve = "qwenkit serve --model Qwen/Qwen3-8B-GGUF:"
    on_gpu = [fit.quant for fit in fits(gpu_bytes) if fit.fits]
    if on_gpu:
        return f"{serve}{'Q8_0' if 'Q8_0' in on_gpu else on_gpu[-1]}"
    # Generation reads all weights for each token: without a GPU fewer bits are faster.
    smallest = fits(memory_bytes)[0]
    if smallest.fits:
        return f"{serve}Q4_K_M"
    if smallest.n_ctx_max >= 1024:
        return f"{serve}Q4_K_M --n-ctx {smallest.n_ctx_max}"
    return "Qwen3-8B does not fit; without --model, `qwenkit serve` serves the small demo model"


def _fit(quant: str, memory_bytes: int) -> Fit:
    weights = int(N_PARAMETERS * BITS_PER_WEIGHT[quant] / 8)
    total = weights + N_CTX * KV_BYTES_PER_TOKEN + COMPUTE_BYTES
    usable = int(memory_bytes * USABLE)
    room = max(0, usable - weights - COMPUTE_BYTES)
    return Fit(
        quant=quant,
        weights_bytes=weights,
        total_bytes=total,
        fits=total <= usable,
        n_ctx_max=min(N_CTX, room // KV_BYTES_PER_TOKEN // 256 * 256),
    )
