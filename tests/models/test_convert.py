"""The converter: every number, every key, and nothing left behind when it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenkit.errors import InvalidSettings, ModelCorrupt, ModelNotFound, ModelUnsupported
from qwenkit.models.convert import convert_checkpoint, plan_conversion
from qwenkit.models.gguf_check import check_gguf
from qwenkit.models.progress import Advance

GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
TEXTS = [
    "hello world",
    "The 12 quick  brown\n\n\n foxes' don't   jump\t\r\nover 1234567 dogs!!",
    "ünïcödé 你好 мир 🦙‍🌫️ \u200d",
    "<|im_start|>user\nhi<|im_end|><think>\nhm\n</think><tool_call>{}</tool_call>",
    " ",
    "",
]


def gguf_name(hf_name: str) -> str:
    if hf_name in GGUF_NAMES:
        return GGUF_NAMES[hf_name]
    _, _, layer, rest = hf_name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def numbers(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a GGUF file as float32, read by the gguf package."""
    tensors = GGUFReader(path).tensors
    return {t.name: dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in tensors}


def leftovers(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@contextmanager
def failing_progress(after: int, error: BaseException) -> Iterator[Callable[..., Any]]:
    """A progress factory whose `advance` fails the `after`-th time."""
    calls = 0

    def advance(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error

    @contextmanager
    def factory(*_: object, **__: object) -> Iterator[Advance]:
        yield advance

    yield factory


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    stored=st.sampled_from(["F32", "F16", "BF16"]),
    n_shards=st.integers(1, 4),
    tied=st.booleans(),
    n_layers=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_auto_keeps_every_number_as_it_is_stored(
    tmp_path_factory: pytest.TempPathFactory,
    tiny: SimpleNamespace,
    stored: str,
    n_shards: int,
    tied: bool,
    n_layers: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("auto")
    config = {"tie_word_embeddings": tied, "num_hidden_layers": n_layers}
    tensors = tiny.write(folder / "m", dtype=stored, n_shards=n_shards, config=config, seed=seed)
    convert_checkpoint(folder / "m", folder / "m.gguf")
    written = numbers(folder / "m.gguf")
    assert written.keys() == {gguf_name(name) for name in tensors}
    for name, data in tensors.items():
        np.testing.assert_array_equal(written[gguf_name(name)], tiny.as_stored(data, stored))
    kinds = {t.name: t.type.name for t in check_gguf(folder / "m.gguf").tensors}
    assert {kinds[gguf_name(n)] for n, t in tensors.items() if t.ndim == 2} == {stored}
    assert {kinds[gguf_name(n)] for n, t in tensors.items() if t.ndim == 1} == {"F32"}


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16", "F64"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 0), ("f16", 1e-3), ("bf16", 8e-3)])
def test_a_chosen_dtype_rounds_and_does_no_more(
    tmp_path: Path, tiny: SimpleNamespace, stored: str, dtype: str, tolerance: float
) -> None:
    tensors = tiny.write(tmp_path / "m", dtype=stored)
    convert_checkpoint(tmp_path / "m", tmp_path / "m.gguf", dtype=dtype)
    written = numbers(tmp_path / "m.gguf")
    for name, data in tensors.items():
        np.testing.assert_allclose(
            written[gguf_name(name)], tiny.as_stored(data, stored), rtol=tolerance, atol=1e-6
        )


def test_q8_0_stays_within_half_a_step_and_leaves_odd_rows_in_f16(
    tmp_path: Path, tiny: SimpleNamespace
) -> None:
    tensors = tiny.write(tmp_path / "m", config={"hidden_size": 48})
    convert_checkpoint(tmp_path / "m", tmp_path / "m.gguf", dtype="q8_0")
    header, written = check_gguf(tmp_path / "m.gguf"), numbers(tmp_path / "m.gguf")
    kinds = {t.name: t.type.name for t in header.tensors}
    assert kinds["blk.0.attn_q.weight"] == "F16"
    assert kinds["blk.0.ffn_down.weight"] == kinds["blk.0.attn_output.weight"] == "Q8_0"
    for name, data in tensors.items():
        step = np.abs(data).max() / 127
        np.testing.assert_allclose(written[gguf_name(name)], data, rtol=1e-3, atol=step * 0.6)


def test_the_metadata_is_llama_cpps(checkpoint: Path, tmp_path: Path) -> None:
    convert_checkpoint(checkpoint, tmp_path / "m.gguf", dtype="bf16", name="Some Name")
    data = check_gguf(tmp_path / "m.gguf").metadata
    tokens, kinds = data.pop("tokenizer.ggml.tokens"), data.pop("tokenizer.ggml.token_type")
    merges = data.pop("tokenizer.ggml.merges")
    assert isinstance(tokens, list)
    assert isinstance(kinds, list)
    assert isinstance(merges, list)
    assert data == {
        "general.architecture": "qwen3",
        "general.type": "model",
        "general.name": "Some Name",
        "general.size_label": "41K",
        "general.file_type": 32,
        "general.quantization_version": 2,
        "qwen3.block_count": 2,
        "qwen3.context_length": 512,
        "qwen3.embedding_length": 32,
        "qwen3.feed_forward_length": 96,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
        "qwen3.attention.key_length": 16,
        "qwen3.attention.value_length": 16,
        "qwen3.attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "qwen3.rope.freq_base": 1e6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.padding_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }
    kind_of = dict(zip(tokens, kinds, strict=True))
    assert kind_of["<|im_start|>"] == kind_of["<|fim_prefix|>"] == 3
    assert kind_of["<think>"] == kind_of["</tool_call>"] == 4
    assert (tokens[-1], kinds[-1]) == ("[PAD319]", 5)
    assert (tokens[0], kinds[0]) == ("Ā", 1)
    assert merges[0] == "Ġ h"


@pytest.mark.parametrize(
    "config",
    [
        {"rope_scaling": YARN},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 1e6, **YARN}},
    ],
    ids=["transformers-4", "transformers-5"],
)
def test_yarn_is_read_in_both_spellings(
    tmp_path: Path, tiny: SimpleNamespace, config: dict[str, Any]
) -> None:
    tiny.write(tmp_path / "m", config=config)
    convert_checkpoint(tmp_path / "m", tmp_path / "m.gguf")
    data = check_gguf(tmp_path / "m.gguf").metadata
    assert data["qwen3.rope.freq_base"] == 1e6
    assert data["qwen3.rope.scaling.type"] == "yarn"
    assert data["qwen3.rope.scaling.factor"] == 4.0
    assert data["qwen3.rope.scaling.original_context_length"] == 128


def test_a_chat_template_in_a_file_of_its_own_is_taken(checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["chat_template"]
    path.write_text(json.dumps(config), encoding="utf-8")
    (checkpoint / "chat_template.jinja").write_text("{{ 'ä' }}", encoding="utf-8")
    convert_checkpoint(checkpoint, tmp_path / "m.gguf")
    assert check_gguf(tmp_path / "m.gguf").text("tokenizer.chat_template") == "{{ 'ä' }}"


@pytest.mark.parametrize("text", TEXTS)
def test_llama_cpp_tokenises_as_the_tokenizers_library_does(
    checkpoint: Path, tmp_path: Path, tiny: SimpleNamespace, text: str
) -> None:
    from tokenizers import Tokenizer

    convert_checkpoint(checkpoint, tmp_path / "m.gguf")
    reference = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    with tiny.load_llama(tmp_path / "m.gguf") as model:
        assert model.tokenize(text, special=True) == reference.encode(text).ids


@pytest.mark.parametrize(
    ("config", "fact"),
    [
        ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}, "Qwen2ForCausalLM"),
        ({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe"}, "Qwen3Moe"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "SequenceClassification"),
        ({"attention_bias": True}, "biases"),
        ({"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}, "sliding"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"partial_rotary_factor": 0.5}, "part of each head"),
    ],
)
def test_what_llama_cpps_qwen3_lacks_is_refused(
    tmp_path: Path, tiny: SimpleNamespace, config: dict[str, Any], fact: str
) -> None:
    tiny.write(tmp_path / "m", config=config)
    with pytest.raises(ModelUnsupported, match=fact):
        plan_conversion(tmp_path / "m")


def test_a_sliding_window_that_is_not_used_is_fine(tmp_path: Path, tiny: SimpleNamespace) -> None:
    config = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}
    tiny.write(tmp_path / "m", config=config)
    plan_conversion(tmp_path / "m")


@pytest.mark.parametrize("key", ["hidden_size", "rms_norm_eps", "vocab_size", "rope_theta"])
def test_a_missing_number_in_the_configuration_is_named(
    tmp_path: Path, tiny: SimpleNamespace, key: str
) -> None:
    tiny.write(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config[key]
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelCorrupt, match=key):
        plan_conversion(tmp_path / "m")


LAYER_NAME = "model.layers.1.mlp.up_proj.weight"


def test_a_missing_tensor_is_named(tmp_path: Path, tiny: SimpleNamespace) -> None:
    tiny.write(tmp_path / "m", change=lambda tensors: tensors.pop(LAYER_NAME))
    with pytest.raises(ModelCorrupt, match=LAYER_NAME):
        plan_conversion(tmp_path / "m")


def test_an_unexpected_tensor_is_named(tmp_path: Path, tiny: SimpleNamespace) -> None:
    bias = np.zeros(64, dtype=np.float32)
    name = "model.layers.0.self_attn.q_proj.bias"
    tiny.write(tmp_path / "m", change=lambda tensors: tensors.update({name: bias}))
    with pytest.raises(ModelUnsupported, match=name):
        plan_conversion(tmp_path / "m")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(
    tmp_path: Path, tiny: SimpleNamespace
) -> None:
    data = np.zeros((95, 32), dtype=np.float32)
    tiny.write(tmp_path / "m", change=lambda tensors: tensors.update({LAYER_NAME: data}))
    with pytest.raises(ModelCorrupt, match=rf"{LAYER_NAME}.*\[95, 32\].*\[96, 32\]"):
        plan_conversion(tmp_path / "m")


def test_a_copy_of_the_tied_embedding_is_dropped_and_another_matrix_refused(
    tmp_path: Path, tiny: SimpleNamespace
) -> None:
    def copy(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    def differ(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1

    tiny.write(tmp_path / "copy", change=copy)
    planned = {tensor.name for tensor in plan_conversion(tmp_path / "copy").tensors}
    assert "output.weight" not in planned
    tiny.write(tmp_path / "differ", change=differ)
    with pytest.raises(ModelUnsupported, match="lm_head"):
        plan_conversion(tmp_path / "differ")


def test_numbers_too_large_for_f16_are_refused_and_not_made_infinite(
    tmp_path: Path, tiny: SimpleNamespace
) -> None:
    def enlarge(tensors: dict[str, np.ndarray]) -> None:
        tensors[LAYER_NAME][3, 4] = 70_000

    tiny.write(tmp_path / "m", change=enlarge)
    with pytest.raises(ModelUnsupported, match=LAYER_NAME):
        convert_checkpoint(tmp_path / "m", tmp_path / "out" / "m.gguf", dtype="f16")
    assert leftovers(tmp_path / "out") == []


def test_another_splitting_rule_is_refused(checkpoint: Path) -> None:
    path = checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+"
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelUnsupported, match="splits"):
        plan_conversion(checkpoint)


def test_a_token_beyond_the_embedding_is_refused(tmp_path: Path, tiny: SimpleNamespace) -> None:
    tiny.write(tmp_path / "m", config={"vocab_size": 256})
    with pytest.raises(ModelCorrupt, match="256 rows"):
        plan_conversion(tmp_path / "m")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(ModelNotFound, match=name.partition(".")[2]):
        plan_conversion(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "\udcff", "[" * 100_000])
def test_broken_json_is_an_error_of_the_model(checkpoint: Path, name: str, text: str) -> None:
    (checkpoint / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelCorrupt, match=name):
        plan_conversion(checkpoint)


def test_an_unknown_dtype_is_a_wrong_setting(checkpoint: Path) -> None:
    with pytest.raises(InvalidSettings, match="int3"):
        plan_conversion(checkpoint, dtype="int3")


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_a_failure_at_any_tensor_leaves_nothing_behind(
    checkpoint: Path, tmp_path: Path, error: BaseException
) -> None:
    out = tmp_path / "out"
    n_tensors = len(plan_conversion(checkpoint).tensors)
    assert n_tensors == 24
    for after in range(n_tensors):
        with (
            failing_progress(after, error) as progress,
            pytest.raises(type(error)),
        ):
            convert_checkpoint(checkpoint, out / "m.gguf", progress=progress)
        assert leftovers(out) == []


def test_a_failure_keeps_the_file_that_was_there_before(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(b"older")
    with failing_progress(3, RuntimeError()) as progress, pytest.raises(RuntimeError):
        convert_checkpoint(checkpoint, target, progress=progress)
    assert target.read_bytes() == b"older"
    convert_checkpoint(checkpoint, target)
    check_gguf(target)


def test_a_shard_that_shrinks_after_its_header_was_read_is_an_error(checkpoint: Path) -> None:
    conversion = plan_conversion(checkpoint)
    shard = checkpoint / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4000])
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors"):
        [list(tensor.chunks()) for tensor in conversion.tensors]


def test_progress_adds_up_to_the_total(checkpoint: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    totals: list[int | None] = []

    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B") -> Iterator[Advance]:
        totals.append(total)
        yield seen.append

    convert_checkpoint(checkpoint, tmp_path / "m.gguf", dtype="q8_0", progress=progress)
    assert totals == [sum(seen)]
    assert len(seen) == 24


def test_an_interrupt_signal_leaves_nothing_behind(checkpoint: Path, tmp_path: Path) -> None:
    # What runs the tests in the background may have the signal ignored, for all that it starts.
    script = """
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from qwenkit.models.convert import convert_checkpoint

signal.signal(signal.SIGINT, signal.default_int_handler)

@contextmanager
def progress(*_, **__):
    def advance(_):
        print("half", flush=True)
        sys.stdin.read()
    yield advance

convert_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), progress=progress)
"""
    out = tmp_path / "out"
    command = [sys.executable, "-c", script, str(checkpoint), str(out / "m.gguf")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        assert len(leftovers(out)) == 1
        process.send_signal(signal.SIGINT)
        process.wait()
    assert process.returncode != 0
    assert leftovers(out) == []


def test_what_a_killed_process_left_is_cleared_by_the_next(
    checkpoint: Path, tmp_path: Path
) -> None:
    stale = tmp_path / ".m.gguf.0badcafe.partial"
    stale.write_bytes(b"half")
    convert_checkpoint(checkpoint, tmp_path / "m.gguf")
    assert not stale.exists()


def test_two_conversions_to_one_target_at_once_both_end_whole(
    checkpoint: Path, tmp_path: Path
) -> None:
    out, barrier = tmp_path / "out", threading.Barrier(2)

    @contextmanager
    def progress(*_: object, **__: object) -> Iterator[Advance]:
        barrier.wait()
        yield lambda _: None

    threads = [
        threading.Thread(
            target=convert_checkpoint,
            args=(checkpoint, out / "m.gguf"),
            kwargs={"progress": progress},
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_gguf(out / "m.gguf")
    assert leftovers(out) == ["m.gguf"]


@pytest.mark.parametrize("dtype", ["auto", "f32", "q8_0"])
def test_memory_stays_near_one_tensor_however_many_there_are(
    tmp_path: Path, tiny: SimpleNamespace, dtype: str
) -> None:
    config = {"num_hidden_layers": 40, "hidden_size": 512, "intermediate_size": 512}
    tiny.write(tmp_path / "m", dtype="BF16", config=config)
    size = (tmp_path / "m" / "model.safetensors").stat().st_size
    assert size > 60_000_000
    largest = 512 * 512 * 4
    tracemalloc.start()
    try:
        convert_checkpoint(tmp_path / "m", tmp_path / "m.gguf", dtype=dtype)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * largest


@pytest.mark.parity
@pytest.mark.parametrize(
    "config",
    [
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False},
        {"rope_scaling": YARN},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ],
    ids=["tied", "untied", "yarn", "linear"],
)
def test_llama_cpp_computes_what_transformers_computes(
    tmp_path: Path, tiny: SimpleNamespace, config: dict[str, Any]
) -> None:
    tiny.write(tmp_path / "m", config=config)
    assert logits_differ_by(tmp_path / "m", tmp_path / "m.gguf", tiny) <= 1e-3


@pytest.mark.parity
def test_llama_cpp_computes_what_transformers_computes_on_the_demo_model(
    tmp_path: Path, tiny: SimpleNamespace
) -> None:
    from qwenkit.models.demo import DEMO_DIR

    assert logits_differ_by(DEMO_DIR, tmp_path / "m.gguf", tiny) <= 1e-3


def logits_differ_by(folder: Path, target: Path, tiny: SimpleNamespace) -> float:
    import torch
    from transformers import Qwen3ForCausalLM

    convert_checkpoint(folder, target, dtype="f32")
    tokens = np.random.default_rng(1).integers(0, 250, 200).tolist()
    with tiny.load_llama(target) as model:
        ours = model.logits(tokens)
    reference = Qwen3ForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.inference_mode():
        theirs = reference(torch.tensor([tokens])).logits[0].numpy()
    assert theirs.std() > 0.1
    return float(np.abs(ours - theirs).max())
