"""Perplexity and divergence against the formulas with transformers in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR
from qwenkit.quality.measure import compare
from qwenkit.quality.tokens import cut, encode

from .conftest import TEXT

pytestmark = pytest.mark.parity

N_CTX = 256


def disturb(folder: Path) -> None:
    """Write the demo model with every weight off by a few per cent."""
    for path in DEMO_DIR.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    rng = np.random.default_rng(1)
    weights = {
        name: (values * (1 + 0.1 * rng.standard_normal(values.shape))).astype(np.float32)
        for name, values in load_file(DEMO_DIR / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def log_probabilities(folder: Path, windows: Any) -> Any:
    import torch
    from transformers import Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(windows.astype(np.int64))).logits.double()
    return torch.log_softmax(logits[:, N_CTX // 2 : -1], dim=-1)


def test_perplexity_divergence_and_agreement_are_what_transformers_gives(
    demo_f32: Path, tmp_path: Path
) -> None:
    disturb(tmp_path)
    disturbed = tmp_path / "disturbed.gguf"
    convert_checkpoint(tmp_path, disturbed, dtype="f32")
    measured = compare(demo_f32, [disturbed], TEXT, n_ctx=N_CTX, n_threads=1, kv_type="f32")

    windows = cut(encode(TEXT, demo_f32), n_ctx=N_CTX)
    targets = windows[:, N_CTX // 2 + 1 :, None]
    expected = [log_probabilities(folder, windows) for folder in (DEMO_DIR, tmp_path)]
    for theirs, ours in zip(expected, measured, strict=True):
        losses = -np.take_along_axis(theirs.numpy(), targets, axis=-1)
        assert ours.perplexity.value == pytest.approx(np.exp(losses.mean()), rel=1e-3)
        assert ours.perplexity.n_tokens == losses.size
    before, after = expected
    divergences = (before.exp() * (before - after)).sum(dim=-1).numpy()
    assert divergences.mean() > 0.01
    assert measured[1].divergence.mean == pytest.approx(divergences.mean(), rel=1e-3)
    assert measured[1].divergence.median == pytest.approx(np.median(divergences), rel=5e-3)
    assert measured[1].divergence.maximum == pytest.approx(divergences.max(), rel=5e-3)
    agreement = (before.argmax(dim=-1) == after.argmax(dim=-1)).double().mean()
    assert measured[1].agreement == pytest.approx(float(agreement), abs=2 / divergences.size)
