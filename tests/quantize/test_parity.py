"""Importance against what transformers multiplies its matrices with, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR
from qwenkit.quality.tokens import cut, encode
from qwenkit.quantize.activations import compute_imatrix

from .conftest import TEXT

pytestmark = pytest.mark.parity

N_CTX = 200
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def sums_of_squares(windows: Any) -> dict[str, Any]:
    import torch
    from transformers import Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
    found: dict[str, Any] = {}

    def watch(name: str) -> Any:
        def on_call(_module: Any, inputs: Any, _output: Any) -> None:
            rows = inputs[0].double()
            found[name] = (rows * rows).sum(dim=(0, 1)).numpy()

        return on_call

    for i, layer in enumerate(model.model.layers):
        for theirs, ours in NAMES.items():
            layer.get_submodule(theirs).register_forward_hook(watch(f"blk.{i}.{ours}.weight"))
    with torch.no_grad():
        model(torch.from_numpy(windows.astype(np.int64)))
    return found


def test_the_sums_are_those_of_transformers_activations(tmp_path: Path) -> None:
    gguf = tmp_path / "demo.gguf"
    convert_checkpoint(DEMO_DIR, gguf, dtype="f32")
    expected = sums_of_squares(cut(encode(TEXT, gguf), n_ctx=N_CTX))
    matrix = compute_imatrix(gguf, source=TEXT, n_ctx=N_CTX, n_threads=1)
    assert matrix.usage.keys() == expected.keys()
    for name, sums in expected.items():
        assert matrix.usage[name].sums[0] == pytest.approx(sums, rel=1e-2, abs=1e-3 * sums.max())
