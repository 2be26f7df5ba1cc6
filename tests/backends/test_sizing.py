"""How large a context a machine can hold, and how far it has to be stretched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwenkit.backends.llamacpp import sizing
from qwenkit.backends.llamacpp.sizing import Sizing, available_memory, size_model, usable_cores
from qwenkit.errors import InvalidSettings, OutOfMemory
from qwenkit.models.info import ModelInfo
from qwenkit.settings import KvType, ModelSpec, RopeScaling

GIB = 2**30
KV_BYTES = 147_456  # Qwen3-8B's: 36 layers, 8 heads, 128 + 128 numbers of two bytes


def qwen3_8b(**fields: Any) -> ModelInfo:
    fields = {
        "path": Path("qwen3-8b.gguf"),
        "format": "gguf",
        "name": "Qwen3 8B",
        "architecture": "qwen3",
        "n_parameters": 8_190_735_360,
        "size_bytes": 5 * GIB,
        "n_files": 1,
        "n_layers": 36,
        "n_ctx": 40_960,
        "rope_scaling": "",
        "n_vocab": 151_936,
        "has_chat_template": True,
        "types": (),
        "kv_bytes_per_token": {"f16": KV_BYTES, "q8_0": KV_BYTES * 34 // 64},
    } | fields
    return ModelInfo(**fields)


def size(memory_gib: float | None = 64, *, info: ModelInfo | None = None, **spec: Any) -> Sizing:
    memory = None if memory_gib is None else round(memory_gib * GIB)
    settings = ModelSpec(qwenkit_home=Path("home"), **spec)
    return size_model(info or qwen3_8b(), settings, memory_bytes=memory)


def test_a_context_of_zero_takes_the_model_s_own() -> None:
    chosen = size()
    assert chosen.options.n_ctx == 32_768
    assert chosen.options.yarn_factor == 1
    assert chosen.notes == ()


def test_another_model_s_stated_context_is_its_own() -> None:
    assert size(info=qwen3_8b(n_ctx=8192)).options.n_ctx == 8192
    assert size(info=qwen3_8b(architecture="llama")).options.n_ctx == 40_960


def test_short_memory_takes_what_fits_and_says_so() -> None:
    chosen = size(8)
    n_ctx = chosen.options.n_ctx
    assert n_ctx % 256 == 0
    used = 5 * GIB + n_ctx * KV_BYTES
    assert 0.8 * 8 * GIB < used + 0.5 * GIB <= 0.9 * 8 * GIB
    assert str(n_ctx) in chosen.notes[0]


@pytest.mark.parametrize(("kv_type", "bits"), [("f32", 32), ("bf16", 16), ("q8_0", 8.5)])
def test_the_number_format_decides_how_much_fits(kv_type: str, bits: float) -> None:
    f16, other = size(8).options.n_ctx, size(8, kv_type=KvType(kv_type)).options
    assert other.n_ctx == pytest.approx(f16 * 16 / bits, abs=512)
    assert other.kv_type == kv_type


def test_weights_that_do_not_fit_are_out_of_memory() -> None:
    with pytest.raises(OutOfMemory):
        size(5)


def test_a_context_that_is_asked_for_and_does_not_fit_is_out_of_memory() -> None:
    assert size(16, n_ctx=32_768).options.n_ctx == 32_768
    with pytest.raises(OutOfMemory) as caught:
        size(8, n_ctx=32_768)
    assert "32768" in caught.value.message


@pytest.mark.parametrize("n_ctx", [1, 256, 512, 1023])
def test_a_small_context_that_is_asked_for_is_taken(n_ctx: int) -> None:
    assert size(n_ctx=n_ctx).options.n_ctx == n_ctx


def test_a_model_made_for_a_small_context_has_it() -> None:
    assert size(info=qwen3_8b(n_ctx=512)).options.n_ctx == 512


def test_memory_that_is_not_the_machine_s_is_not_counted() -> None:
    assert size(None).options.n_ctx == 32_768


@pytest.mark.parametrize(
    ("n_ctx", "factor"), [(32_768, 1), (32_769, 2), (65_536, 2), (65_537, 3), (131_072, 4)]
)
def test_a_longer_context_is_stretched_by_the_least_whole_factor(n_ctx: int, factor: int) -> None:
    chosen = size(None, n_ctx=n_ctx)
    assert chosen.options.yarn_factor == factor
    assert chosen.options.yarn_original_ctx == 32_768
    assert bool(chosen.notes) == (factor > 1)


def test_a_longer_context_without_stretching_is_refused() -> None:
    with pytest.raises(InvalidSettings):
        size(None, n_ctx=40_000, rope_scaling=RopeScaling.NONE)
    assert size(None, n_ctx=32_768, rope_scaling=RopeScaling.NONE).options.yarn_factor == 1


@pytest.mark.parametrize(
    ("n_batch", "n_parallel", "n_ctx", "expected"),
    [(512, 16, 4096, 512), (512, 16, 300, 300), (32, 128, 4096, 128), (512, 64, 40, 64)],
)
def test_a_batch_holds_a_row_of_every_answer_and_no_more_than_the_context(
    n_batch: int, n_parallel: int, n_ctx: int, expected: int
) -> None:
    chosen = size(n_batch=n_batch, n_parallel=n_parallel, n_ctx=n_ctx)
    assert chosen.options.n_batch == expected


def test_what_the_user_set_is_passed_on() -> None:
    options = size(n_threads=3, n_gpu_layers=7, use_mmap=False, use_mlock=True).options
    assert (options.n_threads, options.n_gpu_layers) == (3, 7)
    assert (options.use_mmap, options.use_mlock) == (False, True)


def test_threads_are_the_cores_that_can_be_used() -> None:
    assert size().options.n_threads == usable_cores() >= 1


def test_a_container_s_limit_bounds_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    unbounded = available_memory()
    limits = {"memory.max": 3000, "memory.current": 1000}
    monkeypatch.setattr(sizing, "_cgroup_bytes", limits.get)
    assert available_memory() == min(unbounded, 2000)
