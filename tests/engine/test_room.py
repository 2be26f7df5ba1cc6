"""Whether a model fits beside what is in memory already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenkit.engine.loading import fits_in_memory
from qwenkit.errors import InvalidSettings, ModelCorrupt, ModelNotFound
from qwenkit.settings import (
    KvType,
    ModelSpec,
    OnnxProvider,
    RopeScaling,
    RuntimeBackend,
    Speculation,
)

MOST = 2**40


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """The demo model's."""
    return ModelSpec(qwenkit_home=tmp_path)


def test_a_small_model_fits(spec: ModelSpec) -> None:
    assert fits_in_memory(spec)


def test_a_context_that_would_have_to_be_smaller_does_not(spec: ModelSpec) -> None:
    assert not fits_in_memory(replace(spec, n_ctx=MOST, kv_type=KvType.F32))


def test_what_can_not_be_loaded_anyway_says_so(spec: ModelSpec) -> None:
    with pytest.raises(ModelNotFound):
        fits_in_memory(replace(spec, model_path="./nothing.gguf"))
    with pytest.raises(InvalidSettings):
        fits_in_memory(replace(spec, n_ctx=16_384, rope_scaling=RopeScaling.NONE))


def test_a_draft_model_that_can_not_be_loaded_says_so(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        fits_in_memory(replace(spec, draft_model_path="./nothing.gguf"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    broken = replace(spec, draft_model_path=str(tmp_path / "broken.gguf"))
    with pytest.raises(ModelCorrupt):
        fits_in_memory(broken)
    assert fits_in_memory(replace(broken, speculation=Speculation.OFF)), "it is not loaded at all"


@pytest.mark.parametrize(
    "fields", [{"onnx_provider": OnnxProvider.CUDA}, {"draft_model_path": "qwenkit-demo"}]
)
def test_what_no_onnx_model_can_be_loaded_by_is_known_before_any_is_exported(
    spec: ModelSpec, fields: dict[str, Any]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(InvalidSettings):
        fits_in_memory(replace(spec, runtime_backend=RuntimeBackend.ONNX, **fields))
