"""How large a context a machine can hold and how far RoPE must stretch for it. Pure but for the two
functions that ask the machine.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.errors import InvalidSettings, OutOfMemory
from qwenkit.models.info import ModelInfo
from qwenkit.models.qwen3 import ARCHITECTURE, native_ctx
from qwenkit.settings import KvType, ModelSpec, RopeScaling

_KV_BYTES = {
    KvType.F32: 4.0,
    KvType.F16: 2.0,
    KvType.BF16: 2.0,
    KvType.Q8_0: 34 / 32,
    KvType.Q4_0: 18 / 32,
}
_USABLE_MEMORY = 0.9
_COMPUTE_BYTES = 512 * 2**20
_MIN_CTX = 1024
_CTX_STEP = 256


@dataclass(frozen=True, slots=True)
class Sizing:
    """What to load a model with, and what the user should know of it."""

    options: LlamaOptions
    notes: tuple[str, ...]


def size_model(info: ModelInfo, spec: ModelSpec, *, memory_bytes: int | None) -> Sizing:
    """Choose context, stretching and threads.

    Args:
        info: The model.
        spec: What the user set; an `n_ctx` of 0 is chosen here.
        memory_bytes: Memory for weights and cache; None where it isn't the machine's (a GPU).

    Raises:
        InvalidSettings: The context is longer than the model's and stretching is off.
        OutOfMemory: Weights and cache don't fit.
    """
    native = native_context(info)
    kv_bytes = kv_bytes_per_token(info.kv_bytes_per_token["f16"], spec.kv_type)
    affordable = _affordable_ctx(info, kv_bytes, memory_bytes)
    notes = []
    n_ctx = spec.n_ctx or min(native, affordable)
    if n_ctx > affordable or (not spec.n_ctx and n_ctx < min(_MIN_CTX, native)):
        raise _too_large(info, n_ctx, kv_bytes, memory_bytes or 0)
    if not spec.n_ctx and n_ctx < native:
        notes.append(f"memory is short: the context is {n_ctx} tokens instead of {native}")
    factor = _yarn_factor(n_ctx, native, spec.rope_scaling)
    if factor > 1:
        notes.append(f"YaRN stretches the context {factor}x; short texts may suffer a little")
    options = LlamaOptions(
        n_ctx=n_ctx,
        n_slots=spec.n_parallel,
        # A step has a row of every answer that runs.
        n_batch=max(min(spec.n_batch, n_ctx), spec.n_parallel),
        n_threads=spec.n_threads or usable_cores(),
        n_gpu_layers=spec.n_gpu_layers,
        kv_type=spec.kv_type.value,
        yarn_factor=factor,
        yarn_original_ctx=native,
        use_mmap=spec.use_mmap,
        use_mlock=spec.use_mlock,
    )
    return Sizing(options, tuple(notes))


def kv_bytes_per_token(f16_bytes: int, kind: KvType) -> int:
    """What a token takes in the cache, of what it takes in 16 bits."""
    return round(f16_bytes / 2 * _KV_BYTES[kind])


def native_context(info: ModelInfo) -> int:
    """Tokens of context the model has without stretching."""
    return native_ctx(info.n_ctx) if info.architecture == ARCHITECTURE else info.n_ctx


def usable_cores() -> int:
    """Physical cores that this process may use."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return min(physical, len(os.sched_getaffinity(0)))
    return physical


def available_memory() -> int:
    """Bytes of memory that can be had, by the machine's count and the container's limit."""
    available: int = psutil.virtual_memory().available
    limit, used = (_cgroup_bytes(name) for name in ("memory.max", "memory.current"))
    return available if limit is None else min(available, limit - (used or 0))


def _cgroup_bytes(name: str) -> int | None:
    try:
        return int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup, or "max"
        return None


def _affordable_ctx(info: ModelInfo, kv_bytes: int, memory_bytes: int | None) -> int:
    if memory_bytes is None or kv_bytes == 0:
        return 2**31
    left = memory_bytes * _USABLE_MEMORY - info.size_bytes - _COMPUTE_BYTES
    return max(0, int(left / kv_bytes) // _CTX_STEP * _CTX_STEP)


def _yarn_factor(n_ctx: int, native: int, scaling: RopeScaling) -> int:
    if n_ctx <= native:
        return 1
    if scaling is RopeScaling.NONE:
        raise InvalidSettings(
            f"N_CTX is {n_ctx} and the model's context is {native}",
            hint="set ROPE_SCALING=auto to stretch it by YaRN",
        )
    return math.ceil(n_ctx / native)


def _too_large(info: ModelInfo, n_ctx: int, kv_bytes: int, memory_bytes: int) -> OutOfMemory:
    gib = 2**30
    return OutOfMemory(
        f"weights of {info.size_bytes / gib:.1f} GiB and a context of {n_ctx} tokens "
        f"({n_ctx * kv_bytes / gib:.1f} GiB) don't fit the {memory_bytes / gib:.1f} GiB of memory "
        "that are free",
        hint="set N_CTX lower or KV_TYPE=q8_0, or serve a smaller quantisation",
    )
