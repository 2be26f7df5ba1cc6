"""Optimum's exporter, which needs an environment of its own: `nox -s optimum`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.export.check import Graph, check_export
from qwenkit.export.slots import slots_of
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR

pytest.importorskip("optimum.exporters.onnx", reason="optimum-onnx has an environment of its own")
pytestmark = pytest.mark.parity

Exported = Callable[..., Path]
Variant = Callable[..., Path]
CONFIG = qwen3.parse_config(read_json(DEMO_DIR / "config.json"))


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_fp32_computes_what_transformers_computes(
    variant: Variant, exported: Exported, tied: bool
) -> None:
    checkpoint = variant(tie_word_embeddings=tied)
    folder = exported(checkpoint, precision="fp32", exporter="optimum")
    found = check_export(folder, checkpoint, CONFIG)
    assert found.max_error < (1e-3 if tied else 1e-4)
    assert found.divergence < 1e-8


@pytest.mark.parametrize(
    "options",
    [{"precision": "int8"}, {"precision": "int4", "symmetric": False, "block_size": 16}],
    ids=str,
)
def test_its_graph_is_quantised_like_the_builders(
    exported: Exported, options: dict[str, Any]
) -> None:
    found = check_export(exported(exporter="optimum", **options), DEMO_DIR, CONFIG)
    assert found.agreement > 0.7


def test_the_head_of_tied_embeddings_is_quantised_too(variant: Variant, exported: Exported) -> None:
    import onnx

    folder = exported(variant(tie_word_embeddings=True), precision="int8", exporter="optimum")
    nodes = onnx.load(folder / "model.onnx", load_external_data=False).graph.node
    quantised = [node for node in nodes if node.op_type == "MatMulNBits"]
    assert len(quantised) == 7 * CONFIG.n_layers + 1


def test_yarn_stretches_its_context(variant: Variant, exported: Exported, tmp_path: Path) -> None:
    checkpoint = variant(max_position_embeddings=256)
    folder = exported(checkpoint, precision="fp32", exporter="optimum", n_ctx=1024)
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    prompt = np.random.default_rng(3).integers(0, 998, 1024).tolist()
    assert check_export(folder, tmp_path, CONFIG, prompts=[prompt]).max_error < 1e-4


def test_its_slots_change_a_linear_as_merging_does(exported: Exported) -> None:
    folder = exported(precision="fp32", exporter="optimum")
    graph, rng = Graph(folder, CONFIG), np.random.default_rng(4)
    tokens = rng.integers(0, 998, (1, 30))
    slot = slots_of(CONFIG)[-1]
    bound = {
        slot.a: rng.standard_normal((slot.n_in, 3), np.float32),
        slot.b: rng.standard_normal((3, slot.n_out), np.float32),
    }
    plain, _ = graph.run(tokens, np.ones_like(tokens), graph.empty(1))
    moved, _ = graph.run(tokens, np.ones_like(tokens), graph.empty(1), bound)
    assert np.abs(moved - plain).max() > 0.1


def test_hidden_states_lead_to_the_logits(exported: Exported) -> None:
    from safetensors.numpy import load_file

    graph = Graph(exported(precision="fp32", exporter="optimum"), CONFIG)
    tokens = np.arange(20)
    head = load_file(DEMO_DIR / "model.safetensors")["lm_head.weight"].astype(np.float32)
    logits = graph.batch([tokens])[0]
    np.testing.assert_allclose(graph.hidden_states(tokens) @ head.T, logits, atol=1e-4)
