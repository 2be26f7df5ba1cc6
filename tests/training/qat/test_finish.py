"""Files hold, weight by weight, what training saw, and runtimes compute what it computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.gguf_reader import GGUFReader
from gguf.quants import dequantize

from qwenkit.errors import InvalidSettings, ModelUnsupported
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.gguf_header import read_header
from qwenkit.training.qat.finish import finish_qat, write_full_precision
from qwenkit.training.qat.prepare import matrices, prepare_qat
from qwenkit.training.qat.scheme import NAMES

# peft and transformers warn about each other.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

GGUF_SCHEMES = [name for name in NAMES if name != "onnx-int4"]
CONFIG = qwen3.parse_config(read_json(DEMO_DIR / "config.json"))
GGUF_NAMES = {each.gguf_name: each.hf_name for each in qwen3.expected_tensors(CONFIG)}


def forward(model: Any, ids: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What one forward pass multiplies with, by the checkpoint's names, and its logits."""
    import torch

    seen: dict[str, np.ndarray] = {}
    hooks = []
    for matrix in matrices(model):
        quantiser = getattr(matrix.layer, "weight_fake_quantizer", None)
        if quantiser is not None:

            def keep(_: Any, given: Any, rounded: Any, name: str = matrix.name) -> None:
                seen[f"{name}.weight"] = rounded.float().numpy().copy()

            hooks.append(quantiser.register_forward_hook(keep))
    # A head that learns nothing is rounded once and then shown.
    head = next(matrix.layer for matrix in matrices(model) if matrix.name == "lm_head")
    if hasattr(head, "_shown"):
        head._shown = None
    with torch.no_grad():
        logits = model(torch.from_numpy(ids[None])).logits[0].float().numpy()
    for hook in hooks:
        hook.remove()
    return seen, logits


def in_gguf(path: Path) -> dict[str, np.ndarray]:
    """Every tensor as a reader of the file computes it, by the checkpoint's names."""
    return {
        GGUF_NAMES[tensor.name]: dequantize(tensor.data, tensor.tensor_type)
        for tensor in GGUFReader(path).tensors
    }


def in_onnx(folder: Path) -> dict[str, np.ndarray]:
    """Every MatMulNBits' weights by the names of the checkpoint, read with the onnx package."""
    import onnx
    from onnx.numpy_helper import to_array

    model = onnx.load(folder / "model.onnx")
    values = {each.name: to_array(each) for each in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            packed, scales = values[node.input[1]], values[node.input[2]]
            assert len(node.input) == 3
            levels = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:2], 32)
            weights = (levels.astype(np.float32) - 8) * scales.reshape(*packed.shape[:2], 1)
            found[node.input[1]] = weights.reshape(len(packed), -1)
    return found


def divergence(reference: np.ndarray, other: np.ndarray) -> float:
    from qwenkit.quality.metrics import divergences, log_probabilities

    return float(divergences(log_probabilities(reference), log_probabilities(other)).mean())


def in_llama_cpp(path: Path, ids: np.ndarray) -> np.ndarray:
    from qwenkit.quality.reader import Reader

    with Reader(path, n_ctx=256, n_threads=1, kv_type="f32") as reader:
        return np.concatenate([piece.logits.copy() for piece in reader.read(ids.astype(np.int32))])


def in_onnxruntime(folder: Path, ids: np.ndarray) -> np.ndarray:
    from qwenkit.export.check import Graph

    return Graph(folder, CONFIG, n_threads=1).batch([ids])[0]


def set_accuracy_level(folder: Path, level: int) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = level
    onnx.save(model, folder / "model.onnx")


@pytest.fixture
def taught(lora, full, stream, teach) -> Any:
    """Makes a model that learned a little on a grid: a LoRA, or all weights."""
    import torch

    def make(scheme: str, *, kind: str = "lora", dtype: Any = torch.float32) -> Any:
        torch.manual_seed(0)
        model = lora(dtype=dtype, std=0.0) if kind == "lora" else full(dtype)
        prepare_qat(model, scheme)
        teach(model, stream(1, 6 * 128).reshape(3, 2, 128), learning_rate=1e-3)
        return model

    return make


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("scheme", GGUF_SCHEMES)
def test_a_gguf_holds_every_weight_that_the_forward_pass_saw(
    taught, stream, tmp_path: Path, scheme: str, kind: str
) -> None:
    import torch

    model = taught(scheme, kind=kind)
    seen, logits = forward(model, ids := stream(2, 96))
    made = finish_qat(model, scheme, checkpoint=DEMO_DIR, target=tmp_path / "m.gguf")
    held = in_gguf(made.path)
    rows = seen.pop("model.embed_tokens.weight")[0]
    np.testing.assert_array_equal(held["model.embed_tokens.weight"][ids], rows)
    assert len(seen) == 29 == made.n_matrices - 1
    for name, weight in seen.items():
        np.testing.assert_array_equal(held[name], weight, err_msg=name)

    # The same numbers in a plain float32 model are the same function, norms included.
    from transformers import Qwen3ForCausalLM

    plain = Qwen3ForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
    plain.load_state_dict({name: torch.from_numpy(weight.copy()) for name, weight in held.items()})
    with torch.no_grad():
        found = plain(torch.from_numpy(ids[None])).logits[0].numpy()
    np.testing.assert_allclose(found, logits, atol=1e-4)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_an_onnx_folder_holds_every_block_that_the_forward_pass_saw(
    taught, stream, tmp_path: Path, kind: str
) -> None:
    model = taught("onnx-int4", kind=kind)
    seen, logits = forward(model, ids := stream(2, 96))
    made = finish_qat(model, "onnx-int4", checkpoint=DEMO_DIR, target=tmp_path / "m")
    held = in_onnx(made.path)
    assert made.n_matrices == len(seen) == 29
    np.testing.assert_array_equal(held["lm_head.MatMul.weight_Q4"], seen["lm_head.weight"])
    for layer in range(CONFIG.n_layers):
        theirs, ours = f"model.layers.{layer}.", f"model.layers.{layer}."
        stacked = [seen[f"{ours}self_attn.{each}_proj.weight"] for each in "qkv"]
        pairs = {
            "attn.qkv_proj": np.concatenate(stacked),
            "attn.o_proj": seen[f"{ours}self_attn.o_proj.weight"],
            "mlp.gate_proj": seen[f"{ours}mlp.gate_proj.weight"],
            "mlp.up_proj": seen[f"{ours}mlp.up_proj.weight"],
            "mlp.down_proj": seen[f"{ours}mlp.down_proj.weight"],
        }
        for name, weight in pairs.items():
            np.testing.assert_array_equal(held[f"{theirs}{name}.MatMul.weight_Q4"], weight)

    # As it is served products round activations to 8 bits; in float32 nothing is left to differ.
    assert divergence(logits, in_onnxruntime(made.path, ids)) < 5e-3
    set_accuracy_level(made.path, 1)
    np.testing.assert_allclose(in_onnxruntime(made.path, ids), logits, atol=1e-3)


@pytest.mark.parametrize("scheme", GGUF_SCHEMES)
def test_llama_cpp_computes_what_training_computed_but_for_its_own_activations(
    taught, stream, tmp_path: Path, scheme: str
) -> None:
    model = taught(scheme)
    _, logits = forward(model, ids := stream(2, 96))
    made = finish_qat(model, scheme, checkpoint=DEMO_DIR, target=tmp_path / "m.gguf")
    found = in_llama_cpp(made.path, ids)
    # llama.cpp rounds activations to 8 bits for products with quantised weights.
    by_activations = divergence(logits, found)
    assert by_activations < 5e-3
    if scheme in ("int4", "q4_0"):
        full = tmp_path / "full.gguf"
        write_full_precision(model, "llama.cpp", checkpoint=DEMO_DIR, target=full)
        assert divergence(logits, in_llama_cpp(full, ids)) > 10 * by_activations


def test_a_bf16_model_saw_the_file_s_weights_in_bf16(taught, stream, tmp_path: Path) -> None:
    import torch

    model = taught("q4_0", kind="full", dtype=torch.bfloat16)
    seen, _ = forward(model, stream(2, 32))
    made = finish_qat(model, "q4_0", checkpoint=DEMO_DIR, target=tmp_path / "m.gguf")
    held = in_gguf(made.path)
    del seen["model.embed_tokens.weight"]
    for name, weight in seen.items():
        rounded = torch.from_numpy(held[name].copy()).bfloat16().float().numpy()
        np.testing.assert_array_equal(rounded, weight, err_msg=name)


@pytest.mark.parametrize("scheme", ["q4_0", "onnx-int4"])
def test_a_tied_model_keeps_one_matrix_for_both_ends(
    full, stream, tied_checkpoint: Path, tmp_path: Path, scheme: str
) -> None:
    import torch
    from transformers import Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(tied_checkpoint, dtype=torch.float32)
    prepare_qat(model, scheme)
    ids = stream(2, 64)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids[None])).logits[0].numpy()
    target = tmp_path / ("m.gguf" if scheme == "q4_0" else "m")
    made = finish_qat(model, scheme, checkpoint=tied_checkpoint, target=target)
    if scheme == "q4_0":
        assert made.n_matrices == 29
        assert "output.weight" not in {tensor.name for tensor in read_header(target).tensors}
        assert divergence(logits, in_llama_cpp(target, ids)) < 5e-3
    else:
        set_accuracy_level(target, 1)
        np.testing.assert_allclose(in_onnxruntime(target, ids), logits, atol=1e-3)


@pytest.fixture
def tied_checkpoint(tmp_path: Path) -> Path:
    """The demo model with its head for an embedding too, in which rows are of a like size."""
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "tied"
    folder.mkdir()
    for path in DEMO_DIR.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = read_json(DEMO_DIR / "config.json") | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_model_that_was_not_prepared_is_quantised_on_the_same_grid(lora, tmp_path: Path) -> None:
    plain, trained = lora(), lora()
    prepare_qat(trained, "int4")
    paths = [tmp_path / "ptq.gguf", tmp_path / "qat.gguf"]
    for model, path in zip((plain, trained), paths, strict=True):
        finish_qat(model, "int4", checkpoint=DEMO_DIR, target=path)
    first, second = map(in_gguf, paths)
    for name, weight in first.items():
        np.testing.assert_array_equal(second[name], weight, err_msg=name)


def test_a_file_says_which_grid_its_matrices_lie_on(full, tmp_path: Path) -> None:
    made = finish_qat(full(), "int8", checkpoint=DEMO_DIR, target=tmp_path / "m.gguf")
    header = read_header(made.path)
    assert header.text("qwenkit.qat.scheme") == "int8"
    assert {tensor.type.name for tensor in header.tensors} == {"Q8_0", "F32"}
    assert made.size_bytes == made.path.stat().st_size


def test_another_scheme_than_the_trained_one_is_refused(full, tmp_path: Path) -> None:
    model = full()
    prepare_qat(model, "q4_0")
    with pytest.raises(InvalidSettings, match="q4_0"):
        finish_qat(model, "q8_0", checkpoint=DEMO_DIR, target=tmp_path / "m.gguf")


def test_weights_that_grew_too_large_leave_no_file(full, tmp_path: Path) -> None:
    import torch

    model = full()
    prepare_qat(model, "q4_0")
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[3, 3] = 1e8
    with pytest.raises(ModelUnsupported, match=r"layers\.2\.mlp\.up_proj"):
        finish_qat(model, "q4_0", checkpoint=DEMO_DIR, target=tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_export_is_not_replaced(full, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(InvalidSettings, match="mine"):
        finish_qat(full(), "onnx-int4", checkpoint=DEMO_DIR, target=tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").exists()
