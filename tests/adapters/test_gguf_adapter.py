"""Adapters in llama.cpp's format: written, read back, and read from other tools."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenkit.adapters.base import BaseShapes
from qwenkit.adapters.check import check_adapter
from qwenkit.adapters.gguf_adapter import write_gguf_adapter
from qwenkit.adapters.lora import LoraPair, make_lora
from qwenkit.adapters.read import is_adapter, read_adapter
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelError

NAME = "blk.0.attn_q.weight"
A = np.arange(32, dtype=np.float32).reshape(2, 16)
B = np.arange(16, dtype=np.float32).reshape(8, 2)
GOOD = {f"{NAME}.lora_a": A, f"{NAME}.lora_b": B}

WriteGguf = Callable[..., Path]


def written(tmp_path: Path, folder: Path) -> Path:
    write_gguf_adapter(read_adapter(folder), tmp_path / "made.gguf")
    return tmp_path / "made.gguf"


def test_the_file_says_what_llama_cpp_looks_for(adapter: Path, tmp_path: Path) -> None:
    reader = GGUFReader(written(tmp_path, adapter))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.type"] == "adapter"
    assert fields["general.architecture"] == "qwen3"
    assert fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == 8.0
    shapes = {tensor.name: tuple(map(int, tensor.shape)) for tensor in reader.tensors}
    # ggml counts the other way round: A is [in, rank], B [rank, out].
    assert shapes["blk.3.attn_v.weight.lora_a"] == (256, 4)
    assert shapes["blk.3.attn_v.weight.lora_b"] == (4, 128)
    assert len(shapes) == 16


def test_plain_lora_keeps_every_number(adapter: Path, tmp_path: Path) -> None:
    source = read_adapter(adapter)
    back = read_adapter(written(tmp_path, adapter))
    assert (back.alpha, back.rank, back.targets) == (8.0, 4, ("q_proj", "v_proj"))
    for ours, theirs in zip(back.pairs, source.pairs, strict=True):
        assert (ours.module, ours.scale) == (theirs.module, theirs.scale)
        np.testing.assert_array_equal(ours.a, theirs.a)
        np.testing.assert_array_equal(ours.b, theirs.b)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rank=st.integers(1, 9),
    other_rank=st.integers(1, 9),
    alpha=st.sampled_from([1, 7, 16.5, -3]),
    other_alpha=st.sampled_from([0, 2, 31]),
    rslora=st.booleans(),
    dtype=st.sampled_from(["F32", "F16", "BF16"]),
    seed=st.integers(0, 99),
)
def test_what_is_written_does_what_its_source_does(
    tmp_path: Path,
    lora: SimpleNamespace,
    rank: int,
    other_rank: int,
    alpha: float,
    other_alpha: float,
    rslora: bool,
    dtype: str,
    seed: int,
) -> None:
    folder = lora.write(
        tmp_path / "a",
        dtype=dtype,
        seed=seed,
        targets=("q_proj", "down_proj", "lm_head"),
        config={
            "r": rank,
            "lora_alpha": alpha,
            "use_rslora": rslora,
            "rank_pattern": {"down_proj": other_rank},
            "alpha_pattern": {"down_proj": other_alpha},
        },
        rank_of=lambda module: other_rank if module.endswith("down_proj") else rank,
    )
    source = read_adapter(folder)
    back = read_adapter(written(tmp_path, folder))
    ours, theirs = lora.deltas(back), lora.deltas(source)
    assert ours.keys() == theirs.keys()
    for module, delta in theirs.items():
        np.testing.assert_allclose(ours[module], delta, atol=1e-6 * np.abs(delta).max())
    assert check_adapter(tmp_path / "made.gguf", source).max_rel < 1e-6


@pytest.mark.parametrize(
    "kind", [GGMLQuantizationType.F16, GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0]
)
def test_number_formats_of_other_tools_are_read(
    tmp_path: Path, gguf_file: WriteGguf, kind: GGMLQuantizationType
) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((32, 64), (8, 32)))
    path = gguf_file(
        tmp_path / "x.gguf", {f"{NAME}.lora_a": a, f"{NAME}.lora_b": b}, raw_dtype=kind
    )
    (pair,) = read_adapter(path).pairs
    np.testing.assert_allclose(pair.a, a, atol=0.03)
    np.testing.assert_allclose(pair.b, b, atol=0.03)
    assert kind.name in pair.stored_as


def test_an_alpha_of_nothing_is_a_scale_of_one(tmp_path: Path, gguf_file: WriteGguf) -> None:
    for alpha in (None, 0.0):
        read = read_adapter(gguf_file(tmp_path / "x.gguf", GOOD, alpha=alpha))
        assert (read.alpha, read.pairs[0].scale) == (0.0, 1.0)
    assert read_adapter(gguf_file(tmp_path / "x.gguf", GOOD, alpha=3.0)).pairs[0].scale == 1.5


@pytest.mark.parametrize(
    ("tensors", "options", "error", "named"),
    [
        (GOOD, {"kind": "model"}, AdapterUnsupported, "general.type"),
        (GOOD, {"adapter_type": "control"}, AdapterUnsupported, "adapter.type"),
        (GOOD, {"architecture": "qwen3moe"}, AdapterUnsupported, "qwen3moe"),
        (GOOD, {"architecture": "llama"}, AdapterUnsupported, "llama"),
        (GOOD, {"alpha": math.nan}, ModelCorrupt, "adapter.lora.alpha"),
        ({}, {}, AdapterUnsupported, "no LoRA"),
        ({f"{NAME}.lora_a": A}, {}, ModelCorrupt, "lora_b"),
        ({f"{NAME}.lora_b": B}, {}, ModelCorrupt, "lora_a"),
        (GOOD | {f"{NAME}.lora_b": B.T.copy()}, {}, ModelCorrupt, "rank"),
        (GOOD | {f"{NAME}.lora_a": A * np.float32(np.nan)}, {}, ModelCorrupt, "NaN"),
        (GOOD | {f"{NAME}.lora_a": A.ravel()}, {}, ModelCorrupt, "should be a matrix"),
        (GOOD | {f"{NAME}.lora_a": A.astype(np.int32)}, {}, AdapterUnsupported, "I32"),
        (GOOD | {"blk.0.attn_norm.weight": A[0]}, {}, AdapterUnsupported, "attn_norm"),
        (GOOD | {"blk.0.attn_q.bias.lora_a": A}, {}, AdapterUnsupported, "attn_q.bias"),
        (GOOD | {"blk.0.ffn_gate_exps.weight.lora_a": A}, {}, AdapterUnsupported, "exps"),
        (GOOD | {"token_embd.weight.lora_a": A}, {}, AdapterUnsupported, "embeddings"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_fault(
    tmp_path: Path,
    gguf_file: WriteGguf,
    tensors: dict[str, np.ndarray],
    options: dict[str, Any],
    error: type[ModelError],
    named: str,
) -> None:
    path = gguf_file(tmp_path / "x.gguf", tensors, **options)
    with pytest.raises(error, match=re.escape(named)):
        read_adapter(path)


def test_an_activated_adapter_is_refused(tmp_path: Path, gguf_file: WriteGguf) -> None:
    def activate(writer: Any) -> None:
        writer.add_array("adapter.alora.invocation_tokens", [1, 2])

    with pytest.raises(AdapterUnsupported, match="aLoRA"):
        read_adapter(gguf_file(tmp_path / "x.gguf", GOOD, extra=activate))


def test_a_look_tells_an_adapter_from_a_model(tmp_path: Path, gguf_file: WriteGguf) -> None:
    assert is_adapter(gguf_file(tmp_path / "a.gguf", GOOD))
    assert not is_adapter(gguf_file(tmp_path / "m.gguf", GOOD, kind="model"))


def test_what_qwen3_lacks_is_not_written(tmp_path: Path, lora: SimpleNamespace) -> None:
    module = "model.layers.0.mlp.experts.3.gate_proj"
    folder = lora.write(
        tmp_path / "a", base=BaseShapes("moe", {module: (4, 6)}), targets=("gate_proj",)
    )
    with pytest.raises(AdapterUnsupported, match=re.escape(module)):
        write_gguf_adapter(read_adapter(folder), tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_scales_too_far_apart_for_one_alpha_are_refused(tmp_path: Path) -> None:
    ones = np.ones((4, 2), np.float32)
    pairs = [
        LoraPair(f"model.layers.{i}.self_attn.q_proj", ones.T, ones * size, scale, "F32")
        for i, (size, scale) in enumerate([(1, 1e-9), (1, 1e-9), (np.float32(1e35), 1.0)])
    ]
    with pytest.raises(AdapterUnsupported, match="too large"):
        write_gguf_adapter(make_lora(tmp_path, pairs, 1.0), tmp_path / "x.gguf")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_never_ends_in_another_error(
    tmp_path: Path, gguf_file: WriteGguf, data: st.DataObject
) -> None:
    path = gguf_file(tmp_path / "x.gguf", GOOD)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3), "changes")):
        at = data.draw(st.integers(0, len(content) - 1), "at")
        content[at] = data.draw(st.integers(0, 255), "byte")
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)), "end")
    path.write_bytes(content[:end])
    try:
        read = read_adapter(path)
    except ModelError:
        return
    assert all(np.isfinite(array).all() for pair in read.pairs for _, array in pair.arrays())


def test_every_shorter_file_is_corrupt(tmp_path: Path, adapter: Path) -> None:
    path = written(tmp_path, adapter)
    content = path.read_bytes()
    for end in [*range(0, 4096, 61), len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(ModelCorrupt):
            read_adapter(path)
