"""How many sequences of which length a machine can hold, where each has its own memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.backends.llamacpp.sizing import usable_cores
from qwenkit.backends.onnx.facts import OnnxOptions
from qwenkit.backends.onnx.layout import Layout
from qwenkit.errors import InvalidSettings, OutOfMemory
from qwenkit.settings import ModelSpec

_USABLE_MEMORY = 0.9
_COMPUTE_BYTES = 512 * 2**20
# onnxruntime arranges quantised matrices anew: 530 MB in memory for 376 MB of a file, measured.
_REPACKED = 1.4
_FLOATS = ("fp32", "fp16")
_CTX_STEP = 256
_MIN_CTX = 1024
# Where memory is short and neither number is set: no fewer tokens than these for the sake of more
# sequences, and no fewer sequences for the sake of more tokens.
_GOOD_CTX = 8192
_GOOD_SLOTS = 4


@dataclass(frozen=True, slots=True)
class OnnxSizing:
    """What to load a model with, and what the user should know of it."""

    options: OnnxOptions
    notes: tuple[str, ...]


def size_onnx(layout: Layout, spec: ModelSpec, *, memory_bytes: int | None) -> OnnxSizing:
    """Choose the context of each sequence, and how many of them.

    Args:
        layout: The model.
        spec: What the user set; N_PARALLEL is the most sequences there may be.
        memory_bytes: Memory for weights and cache; None where it isn't the machine's (a GPU).

    Raises:
        InvalidSettings: The context is longer than the graph was made for.
        OutOfMemory: Weights and cache don't fit.
    """
    if spec.n_ctx > layout.n_ctx:
        raise InvalidSettings(
            f"N_CTX is {spec.n_ctx}, and `{layout.folder}` was exported for {layout.n_ctx} tokens",
            hint=f"export it again: `qwenkit export-onnx … --n-ctx {spec.n_ctx}`",
        )
    n_affordable = _affordable_tokens(layout, spec, memory_bytes)
    n_ctx = spec.n_ctx or _context(layout.n_ctx, spec.n_parallel, n_affordable)
    n_slots = min(spec.n_parallel, n_affordable // n_ctx) if n_ctx else 0
    if n_slots == 0:
        raise _too_large(layout, spec.n_ctx or min(_MIN_CTX, layout.n_ctx), memory_bytes or 0)
    options = OnnxOptions(
        n_ctx=n_ctx,
        n_slots=n_slots,
        # A step has a row of every answer that runs.
        n_batch=max(min(spec.n_batch, n_ctx), n_slots),
        n_threads=spec.n_threads or usable_cores(),
        device=spec.onnx_provider.value,
    )
    return OnnxSizing(options, tuple(_notes(layout, spec, options)))


def _affordable_tokens(layout: Layout, spec: ModelSpec, memory_bytes: int | None) -> int:
    """Tokens of KV cache that fit beside the weights and what a step computes."""
    if memory_bytes is None:
        return 2**31
    weights = layout.size_bytes * (1.0 if layout.precision in _FLOATS else _REPACKED)
    # A step computes the logits of all of its rows, wanted or not.
    step = _COMPUTE_BYTES + 4 * layout.n_vocab * min(spec.n_batch, layout.n_ctx)
    left = memory_bytes * _USABLE_MEMORY - weights - step
    return max(0, int(left / layout.kv_bytes_per_token))


def _context(native: int, n_parallel: int, n_affordable: int) -> int:
    """Tokens of context of each sequence; 0 where not even a short one fits."""
    least = min(_MIN_CTX, native)
    if n_affordable < least:
        return 0
    n_slots = min(n_parallel, max(n_affordable // min(_GOOD_CTX, native), _GOOD_SLOTS))
    n_slots = max(1, min(n_slots, n_affordable // least))
    n_ctx = n_affordable // n_slots
    return native if n_ctx >= native else max(n_ctx // _CTX_STEP * _CTX_STEP, least)


def _notes(layout: Layout, spec: ModelSpec, options: OnnxOptions) -> list[str]:
    notes = []
    if not spec.n_ctx and options.n_ctx < layout.n_ctx:
        notes.append(
            f"memory is short: the context is {options.n_ctx} tokens instead of {layout.n_ctx}"
        )
    if options.n_slots < spec.n_parallel:
        notes.append(
            f"memory is short: {options.n_slots} sequences are decoded together instead of "
            f"{spec.n_parallel}, each with {options.n_ctx} tokens of its own"
        )
    return notes


def _too_large(layout: Layout, n_ctx: int, memory_bytes: int) -> OutOfMemory:
    gib = 2**30
    cache = n_ctx * layout.kv_bytes_per_token
    return OutOfMemory(
        f"weights of {layout.size_bytes / gib:.1f} GiB and a context of {n_ctx} tokens "
        f"({cache / gib:.1f} GiB) don't fit the {memory_bytes / gib:.1f} GiB of memory "
        "that are free",
        hint="set N_CTX lower, or export the model with fewer bits",
    )
