"""Tables of cosines and sines against transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qwenkit.export.rope import plan_context, rope_tables
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR

pytestmark = pytest.mark.parity

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
SCALINGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "linear": {"rope_type": "linear", "factor": 3.0},
    "yarn": YARN,
    "yarn of 2.5": YARN | {"factor": 2.5},
    "betas": YARN | {"beta_fast": 16, "beta_slow": 2},
    "attention factor": YARN | {"attention_factor": 1.3},
    "mscale": YARN | {"mscale": 0.7, "mscale_all_dim": 1.1},
    "short original": YARN | {"original_max_position_embeddings": 128},
}


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS.keys())
@pytest.mark.parametrize("theta", [10_000.0, 1_000_000.0, 5_000_000.0])
def test_tables_are_those_of_transformers(scaling: dict[str, Any] | None, theta: float) -> None:
    import torch
    from transformers import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

    values = read_json(DEMO_DIR / "config.json") | {
        "rope_theta": theta,
        "rope_scaling": scaling,
        "max_position_embeddings": 16384,
    }
    rotary = Qwen3RotaryEmbedding(Qwen3Config(**values))
    right = rotary(torch.zeros(1, 1, 1), torch.arange(16384)[None])
    config = qwen3.parse_config(values)
    found = rope_tables(config, plan_context(config, None))
    for ours, theirs in zip(found, right, strict=True):
        # One unit in the last place of a frequency is this much at the last position.
        np.testing.assert_allclose(ours, theirs[0, :, :32].numpy(), atol=2e-3)
        np.testing.assert_allclose(ours[:512], theirs[0, :512, :32].numpy(), atol=1e-4)
