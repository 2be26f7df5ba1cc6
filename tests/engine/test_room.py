"""Whether a model fits beside what is in memory already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qwenkit.engine.loading import fits_in_memory
from qwenkit.errors import InvalidSettings, ModelNotFound
from qwenkit.settings import KvType, ModelSpec, RopeScaling

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
