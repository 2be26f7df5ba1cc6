"""Adapters in an exported graph's slots, and merged before the export, against PEFT in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.adapters.base import base_of_onnx
from qwenkit.adapters.prepare import prepare_adapter
from qwenkit.export.check import Graph
from qwenkit.export.onnx_folder import export_onnx, source_id
from qwenkit.export.options import ExportOptions
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR

# peft and transformers warn about each other.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

Exported = Callable[..., Path]
CONFIG = qwen3.parse_config(read_json(DEMO_DIR / "config.json"))
TOKENS = np.random.default_rng(2).integers(0, 998, 80)
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def train(folder: Path, *, rank: int, seed: int) -> np.ndarray:
    """Save an adapter of random numbers for all seven linears; the logits that PEFT gives."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(seed)
    base = Qwen3ForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=MODULES))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.05)
    model.save_pretrained(folder)
    with torch.no_grad():
        return model.eval()(torch.from_numpy(TOKENS[None])).logits[0].numpy()


def bound(folder: Path, adapter: Path, home: Path) -> dict[str, Any]:
    """An adapter's matrices by their slots' names, by way of its `.onnx_adapter`."""
    import onnxruntime

    made = prepare_adapter(adapter, format="onnx", base=base_of_onnx(folder), home=home)
    values = onnxruntime.AdapterFormat.read_adapter(str(made.path)).get_parameters()
    # The arrays look into the adapter, which is gone when this returns.
    return {name: value.numpy().copy() for name, value in values.items()}


def logits(graph: Graph, slots: dict[str, Any] | None = None) -> np.ndarray:
    mask = np.ones((1, len(TOKENS)), np.int64)
    return graph.run(TOKENS[None], mask, graph.empty(1), slots)[0][0]


def test_adapters_of_any_rank_share_one_base_and_leave_it_as_it_was(
    exported: Exported, tmp_path: Path
) -> None:
    folder = exported(precision="fp32")
    graph = Graph(folder, CONFIG)
    plain = logits(graph)
    for rank in (1, 8, 20):
        right = train(tmp_path / f"rank{rank}", rank=rank, seed=rank)
        slots = bound(folder, tmp_path / f"rank{rank}", tmp_path)
        np.testing.assert_allclose(logits(graph, slots), right, atol=1e-4)
        assert np.abs(right - plain).max() > 0.1
        np.testing.assert_array_equal(logits(graph), plain)


@pytest.mark.parametrize("options", [{}, {"provider": "cuda"}], ids=["cpu", "cuda"])
def test_an_adapter_on_a_quantised_base_moves_it_as_it_moves_the_float_base(
    exported: Exported, tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = exported(precision="int8", **options)
    right = train(tmp_path / "adapter", rank=8, seed=3)
    found = logits(Graph(folder, CONFIG), bound(folder, tmp_path / "adapter", tmp_path))
    plain = logits(Graph(folder, CONFIG))
    assert np.abs(found - right).mean() < 0.2 * np.abs(plain - right).mean()


def test_an_adapter_merged_before_the_export_is_part_of_the_weights(tmp_path: Path) -> None:
    right = train(tmp_path / "adapter", rank=8, seed=4)
    target = tmp_path / "model"
    report = export_onnx(
        DEMO_DIR,
        target,
        ExportOptions(precision="fp32"),
        adapter=tmp_path / "adapter",
        check=True,
    )
    np.testing.assert_allclose(logits(Graph(target, CONFIG)), right, atol=1e-4)
    assert report.check is not None
    assert report.check.max_error < 1e-4
    assert source_id(DEMO_DIR, tmp_path / "adapter") != source_id(DEMO_DIR)
