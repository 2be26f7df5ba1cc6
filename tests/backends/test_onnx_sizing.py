"""What an ONNX folder says of itself, and how many sequences of it a machine holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenkit.backends.onnx.layout import Layout, read_layout
from qwenkit.backends.onnx.sizing import size_onnx
from qwenkit.errors import InvalidSettings, ModelCorrupt, ModelUnsupported, OutOfMemory
from qwenkit.settings import ModelSpec, OnnxProvider

GIB = 2**30


def genai_config(**changes: Any) -> dict[str, Any]:
    decoder = {
        "filename": "model.onnx",
        "head_size": 128,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {"logits": "logits"},
    }
    model = {
        "type": "qwen3",
        "context_length": 40960,
        "vocab_size": 151936,
        "eos_token_id": [151645, 151643],
        "pad_token_id": 151643,
        "decoder": decoder | changes.pop("decoder", {}),
    }
    return {
        "model": model | changes.pop("model", {}),
        "search": {"past_present_share_buffer": True} | changes,
    }


def folder_of(path: Path, config: dict[str, Any], facts: dict[str, Any] | None = None) -> Path:
    (path / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "model.onnx").write_bytes(b"graph")
    if facts is not None:
        (path / "qwenkit_export.json").write_text(json.dumps(facts), encoding="utf-8")
    return path


@pytest.fixture
def large(tmp_path: Path) -> Layout:
    """Qwen3-8B in 4 bits."""
    return replace(read_layout(folder_of(tmp_path, genai_config())), size_bytes=5 * GIB)


def spec(**fields: Any) -> ModelSpec:
    return ModelSpec(qwenkit_home=Path("home"), **fields)


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    facts = {"options": {"precision": "int4"}, "io_dtype": "float16", "hidden_states": True}
    layout = read_layout(folder_of(tmp_path, genai_config(), facts))
    assert (layout.n_layers, layout.n_kv_heads, layout.head_dim) == (36, 8, 128)
    assert (layout.n_vocab, layout.n_ctx) == (151936, 40960)
    assert layout.special_ids == {"eos": 151645, "pad": 151643}
    assert layout.description == "qwen3 int4"
    assert layout.gives_hidden_states
    assert layout.kv_bytes_per_token == 36 * 2 * 8 * 128 * 2
    assert layout.unknown == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"past_present_share_buffer": False}, "new KV cache"),
        ({"decoder": {"sliding_window": {"window_size": 4096}}}, "sliding"),
        ({"decoder": {"pipeline": [{}]}}, "several graphs"),
        ({"decoder": {"inputs": {"input_ids": "a", "rope_deltas": "b"}}}, "rope_deltas"),
    ],
)
def test_a_layout_that_rows_can_not_be_decoded_in_says_why(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in read_layout(folder_of(tmp_path, genai_config(**changes))).unknown


def test_a_model_that_is_no_decoder_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported):
        read_layout(folder_of(tmp_path, genai_config(model={"encoder": {}})))


def test_a_garbled_folder_is_corrupt(tmp_path: Path) -> None:
    for changes in ({"decoder": {"hidden_size": "wide"}}, {"decoder": {"inputs": None}}):
        with pytest.raises(ModelCorrupt):
            read_layout(folder_of(tmp_path, genai_config(**changes)))


def test_with_enough_memory_every_sequence_has_the_whole_context(large: Layout) -> None:
    sizing = size_onnx(large, spec(), memory_bytes=1000 * GIB)
    assert (sizing.options.n_ctx, sizing.options.n_slots) == (40960, 16)
    assert sizing.notes == ()


@pytest.mark.parametrize("gib", [9, 10, 12, 24, 48, 96])
def test_weights_and_every_cache_fit_the_memory(large: Layout, gib: float) -> None:
    sizing = size_onnx(large, spec(), memory_bytes=int(gib * GIB))
    cache = sizing.options.n_ctx * sizing.options.n_slots * large.kv_bytes_per_token
    logits = 4 * large.n_vocab * sizing.options.n_batch
    assert cache + 1.4 * large.size_bytes + logits <= gib * GIB
    assert sizing.options.n_ctx >= 1024
    assert sizing.notes


def test_short_memory_leaves_a_context_to_talk_in_before_many_sequences(large: Layout) -> None:
    sizing = size_onnx(large, spec(), memory_bytes=24 * GIB)
    assert sizing.options.n_ctx >= 8192
    assert 4 <= sizing.options.n_slots < 16
    assert any("sequences" in note for note in sizing.notes)


def test_a_context_that_is_asked_for_is_kept_and_the_sequences_are_fewer(large: Layout) -> None:
    sizing = size_onnx(large, spec(n_ctx=32768), memory_bytes=24 * GIB)
    assert (sizing.options.n_ctx, sizing.options.n_slots) == (32768, 1)


def test_what_does_not_fit_names_both_sizes(large: Layout) -> None:
    with pytest.raises(OutOfMemory) as caught:
        size_onnx(large, spec(n_ctx=40960), memory_bytes=8 * GIB)
    assert "5.0 GiB" in caught.value.message
    assert "8.0 GiB" in caught.value.message
    with pytest.raises(OutOfMemory):
        size_onnx(large, spec(), memory_bytes=5 * GIB)


def test_a_context_beyond_the_export_is_refused_with_the_command_for_it(large: Layout) -> None:
    with pytest.raises(InvalidSettings, match="40960") as caught:
        size_onnx(large, spec(n_ctx=131072), memory_bytes=1000 * GIB)
    assert "--n-ctx 131072" in caught.value.hint


def test_a_gpu_s_memory_is_not_the_machine_s(large: Layout) -> None:
    on_gpu = spec(onnx_provider=OnnxProvider.CUDA, n_ctx=4096)
    sizing = size_onnx(large, on_gpu, memory_bytes=None)
    assert (sizing.options.n_slots, sizing.options.device) == (16, "cuda")
