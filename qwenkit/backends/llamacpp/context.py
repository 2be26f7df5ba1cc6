"""How a model is loaded, and what every context on it has in common. Knows no batch and no slot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as native

from qwenkit.backends.llamacpp import capi
from qwenkit.backends.llamacpp.amx import amx_is_broken
from qwenkit.errors import ModelCorrupt, OutOfMemory

KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}  # ggml_type


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaOptions:
    """How to load a model.

    Args:
        n_ctx: KV cells for all sequences together; rounded up to a multiple of 256.
        n_slots: Sequences decoded together.
        n_batch: Most rows of one decode.
        n_threads: CPU threads.
        n_gpu_layers: Layers on the GPU; -1 is all.
        kv_type: A key of `KV_TYPES`; `f32` also computes attention in float32, and slower.
        yarn_factor: How far YaRN stretches the original context; 1 is off.
        yarn_original_ctx: The context it stretches.
        use_mmap: Map the weights instead of reading them.
        use_mlock: Keep them from being swapped out.
    """

    n_ctx: int
    n_slots: int
    n_batch: int
    n_threads: int
    n_gpu_layers: int = -1
    kv_type: str = "f16"
    yarn_factor: float = 1.0
    yarn_original_ctx: int = 0
    use_mmap: bool = True
    use_mlock: bool = False


def load_model(
    path: Path, options: LlamaOptions, on_progress: Callable[[float], None] | None = None
) -> Any:
    """A `llama_model` pointer, to be freed by the caller.

    Args:
        path: The GGUF; for a split model its first part.
        options: How to load it.
        on_progress: Called with the share of the weights read, 0 to 1.

    Raises:
        ModelCorrupt: llama.cpp could not read the file.
    """
    params = native.llama_model_default_params()
    params.n_gpu_layers = options.n_gpu_layers
    params.load_mode = _load_mode(options)
    params.use_extra_bufts = not amx_is_broken()
    if on_progress is not None:

        def report(share: float, _user_data: Any) -> bool:
            on_progress(share)
            return True

        params.progress_callback = native.llama_progress_callback(report)
    capi.log.clear()
    model = native.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelCorrupt(
            f"llama.cpp could not load {path}: {capi.log.errors() or 'no reason given'}",
            hint=f"qwenkit model info {path}",
        )
    return model


def _load_mode(options: LlamaOptions) -> int:
    modes = {
        (False, False): native.LLAMA_LOAD_MODE_NONE,
        (True, False): native.LLAMA_LOAD_MODE_MMAP,
        (False, True): native.LLAMA_LOAD_MODE_MLOCK,
        (True, True): native.LLAMA_LOAD_MODE_MMAP_MLOCK,
    }
    return int(modes[options.use_mmap, options.use_mlock])


def shared_params(options: LlamaOptions) -> Any:
    """Parameters of a context with threads, number formats and stretching set."""
    params = native.llama_context_default_params()
    params.n_threads = params.n_threads_batch = options.n_threads
    params.type_k = params.type_v = KV_TYPES[options.kv_type]
    if options.kv_type == "f32":
        # It rounds to half precision on the way, whatever the cache's format.
        params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.no_perf = True
    if options.yarn_factor > 1:
        params.rope_scaling_type = native.LLAMA_ROPE_SCALING_TYPE_YARN
        params.rope_freq_scale = 1.0 / options.yarn_factor
        params.yarn_orig_ctx = options.yarn_original_ctx
    return params


def new_context(model: Any, params: Any) -> Any:
    """A context on a model.

    Raises:
        OutOfMemory: Its KV cache could not be allocated.
    """
    capi.log.clear()
    context = native.llama_init_from_model(model, params)
    if not context:
        raise OutOfMemory(
            f"no context of {params.n_ctx} tokens could be made: "
            f"{capi.log.errors() or 'no reason given'}",
            hint="set N_CTX lower, or KV_TYPE=q8_0",
        )
    return context
