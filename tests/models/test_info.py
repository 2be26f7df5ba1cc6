"""What a model is said to be."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from qwenkit.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.info import TypeShare, inspect_model

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
GENAI = {
    "model": {
        "context_length": 40960,
        "vocab_size": 151936,
        "type": "qwen3",
        "decoder": {
            "filename": "model.onnx",
            "head_size": 128,
            "num_hidden_layers": 36,
            "num_key_value_heads": 8,
        },
    }
}


def test_a_checkpoint_and_its_gguf_are_the_same_model(
    tmp_path: Path, tiny: SimpleNamespace
) -> None:
    tensors = tiny.write(tmp_path / "m", dtype="BF16", n_shards=2, config={"rope_scaling": YARN})
    convert_checkpoint(tmp_path / "m", tmp_path / "m.gguf")
    source, made = inspect_model(tmp_path / "m"), inspect_model(tmp_path / "m.gguf")
    for info in (source, made):
        assert info.architecture == "qwen3"
        assert info.n_parameters == sum(data.size for data in tensors.values())
        assert (info.n_layers, info.n_ctx, info.n_vocab) == (2, 512, 320)
        assert info.rope_scaling == "yarn 4x of 128"
        assert info.has_chat_template
        assert info.kv_bytes_per_token == {"f16": 256, "q8_0": 136}
        assert info.types[0].type == "BF16"
    assert (source.format, source.n_files, made.format, made.n_files) == (
        "safetensors",
        2,
        "gguf",
        1,
    )
    assert made.size_bytes == (tmp_path / "m.gguf").stat().st_size


def test_the_mix_of_types_adds_up(checkpoint: Path, tmp_path: Path) -> None:
    convert_checkpoint(checkpoint, tmp_path / "m.gguf", dtype="q8_0")
    info = inspect_model(tmp_path / "m.gguf")
    assert info.types == (TypeShare("Q8_0", 15, 43_520), TypeShare("F32", 9, 896))


def test_memory_is_weights_and_kv_cache(tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text(json.dumps(GENAI), encoding="utf-8")
    (tmp_path / "model.onnx").write_bytes(b"12345")
    (tmp_path / "model.onnx.data").write_bytes(b"123456789")
    info = inspect_model(tmp_path)
    assert (info.format, info.size_bytes, info.n_files) == ("onnx", 14, 2)
    # Qwen3-8B: 144 KiB a token in f16, so 4.5 GiB at 32k.
    assert info.kv_bytes_per_token["f16"] == 144 * 1024
    assert info.memory_bytes(32768) == 14 + 4.5 * 2**30
    assert info.memory_bytes(32768, kv_type="q8_0") == pytest.approx(2.39 * 2**30, rel=0.01)


@pytest.mark.parametrize("broken", [{}, {"model": 1}, {"model": {"decoder": {}}}])
def test_a_broken_genai_config_is_an_error_of_the_model(
    tmp_path: Path, broken: dict[str, object]
) -> None:
    (tmp_path / "genai_config.json").write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(ModelCorrupt, match="genai_config"):
        inspect_model(tmp_path)


def test_a_graph_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text(json.dumps(GENAI), encoding="utf-8")
    with pytest.raises(ModelCorrupt, match=r"model\.onnx"):
        inspect_model(tmp_path)


def test_nothing_and_no_model_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        inspect_model(tmp_path / "no")
    with pytest.raises(ModelUnsupported):
        inspect_model(tmp_path)
