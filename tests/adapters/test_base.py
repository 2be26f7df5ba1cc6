"""What adapters must fit, read from headers alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qwenkit.adapters.base import (
    GGUF_LINEARS,
    BaseShapes,
    LoraSlot,
    base_of,
    base_of_checkpoint,
    base_of_gguf,
    base_of_onnx,
    check_fit,
    gguf_name,
    module_of,
)
from qwenkit.adapters.read import read_adapter
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelNotFound, ModelUnsupported
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR

SLOT = {"module": "model.layers.0.self_attn.q_proj", "a": "qa", "b": "qb", "in": 256, "out": 256}


def export(folder: Path, **facts: Any) -> Path:
    folder.mkdir()
    (folder / "genai_config.json").write_text("{}", encoding="utf-8")
    (folder / "qwenkit_export.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_a_gguf_has_the_matrices_of_the_checkpoint_it_was_made_from(tmp_path: Path) -> None:
    convert_checkpoint(DEMO_DIR, tmp_path / "m.gguf")
    assert base_of_gguf(tmp_path / "m.gguf").layers == base_of_checkpoint(DEMO_DIR).layers


def test_every_layer_has_seven_matrices_and_an_untied_model_its_output(demo: BaseShapes) -> None:
    assert len(demo.layers) == 4 * 7 + 1
    assert demo.layers["model.layers.3.mlp.down_proj"] == (256, 512)
    assert demo.layers["lm_head"] == (1024, 256)


def test_a_tied_model_has_no_output_to_change(tmp_path: Path) -> None:
    config = json.loads((DEMO_DIR / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"tie_word_embeddings": True})
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert "lm_head" not in base_of_checkpoint(tmp_path).layers


def test_names_are_those_of_the_converter() -> None:
    config = qwen3.parse_config(read_json(DEMO_DIR / "config.json"))
    matrices = [t for t in qwen3.expected_tensors(config) if len(t.shape) == 2]
    for tensor in matrices:
        module = tensor.hf_name.removesuffix(".weight")
        if tensor.hf_name == qwen3.EMBEDDING:
            assert gguf_name(module) is None
            assert module_of(tensor.gguf_name) is None
        else:
            assert gguf_name(module) == tensor.gguf_name
            assert module_of(tensor.gguf_name) == module
    assert len(GGUF_LINEARS) == 7


def test_a_split_gguf_has_the_matrices_of_all_its_parts(tmp_path: Path) -> None:
    # Both parts are whole files here; only their names make them one model.
    for part in (1, 2):
        convert_checkpoint(DEMO_DIR, tmp_path / f"m-0000{part}-of-00002.gguf")
    assert len(base_of_gguf(tmp_path / "m-00001-of-00002.gguf").layers) == 29
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelNotFound, match="00002-of-00002"):
        base_of_gguf(tmp_path / "m-00001-of-00002.gguf")


def test_another_architecture_takes_no_adapters(
    tmp_path: Path, gguf_file: Callable[..., Path]
) -> None:
    path = gguf_file(tmp_path / "m.gguf", {}, architecture="qwen3moe")
    with pytest.raises(ModelUnsupported, match="qwen3moe"):
        base_of_gguf(path)


def test_an_export_lists_its_slots(tmp_path: Path) -> None:
    base = base_of_onnx(export(tmp_path / "m", lora=[SLOT], io_dtype="float16"))
    assert base.layers == {SLOT["module"]: (256, 256)}
    assert base.slots == {SLOT["module"]: LoraSlot("qa", "qb")}
    assert base.io_dtype == "float16"


@pytest.mark.parametrize("facts", [{}, {"lora": []}, {"lora": None}])
def test_an_export_without_slots_says_how_to_get_them(
    tmp_path: Path, facts: dict[str, Any]
) -> None:
    with pytest.raises(AdapterUnsupported, match="without LoRA slots") as caught:
        base_of_onnx(export(tmp_path / "m", **facts))
    assert "export-onnx" in caught.value.hint


@pytest.mark.parametrize(
    "facts",
    [
        {"lora": "yes"},
        {"lora": [1]},
        {"lora": [{**SLOT, "a": 3}]},
        {"lora": [{**SLOT, "in": 0}]},
        {"lora": [SLOT], "io_dtype": "int4"},
    ],
)
def test_a_garbled_record_of_an_export_is_corrupt(tmp_path: Path, facts: dict[str, Any]) -> None:
    with pytest.raises(ModelCorrupt):
        base_of_onnx(export(tmp_path / "m", **facts))


def test_any_form_of_a_model_is_recognised(tmp_path: Path) -> None:
    convert_checkpoint(DEMO_DIR, tmp_path / "m.gguf")
    assert len(base_of(tmp_path / "m.gguf").layers) == 29
    assert len(base_of(DEMO_DIR).layers) == 29
    assert len(base_of(export(tmp_path / "onnx", lora=[SLOT])).layers) == 1
    with pytest.raises(ModelNotFound):
        base_of(tmp_path)


def test_an_adapter_of_another_shape_is_refused_with_both_shapes(
    tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    module = "model.layers.0.self_attn.q_proj"
    wide = BaseShapes("wide", {module: (512, 128)})
    read = read_adapter(lora.write(tmp_path / "a", base=wide))
    with pytest.raises(AdapterUnsupported) as caught:
        check_fit(read, demo)
    assert all(part in caught.value.message for part in (module, "[512, 128]", "[256, 256]"))


def test_an_adapter_for_more_layers_is_refused(
    tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    deep = BaseShapes("deep", {"model.layers.4.self_attn.q_proj": (256, 256)})
    read = read_adapter(lora.write(tmp_path / "a", base=deep))
    with pytest.raises(AdapterUnsupported, match=r"layers\.4\.self_attn\.q_proj"):
        check_fit(read, demo)


def test_a_matrix_without_a_slot_is_refused(
    tmp_path: Path, lora: SimpleNamespace, demo: BaseShapes
) -> None:
    read = read_adapter(lora.write(tmp_path / "a"))
    slots = lora.with_slots(BaseShapes("m", {k: v for k, v in demo.layers.items() if "q_" in k}))
    with pytest.raises(AdapterUnsupported, match=r"without a LoRA slot for .*v_proj"):
        check_fit(read, slots)


def test_a_checkpoint_is_known_by_its_configuration_alone(tmp_path: Path) -> None:
    shutil.copytree(DEMO_DIR, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    assert len(base_of_checkpoint(tmp_path / "m").layers) == 29
