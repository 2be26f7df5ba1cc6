"""Quantising a file: what is written, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from gguf.gguf_writer import GGUFWriter
from safetensors.numpy import load_file, save_file

from qwenkit.errors import (
    EngineError,
    InvalidRequest,
    InvalidSettings,
    ModelUnsupported,
    UsageError,
)
from qwenkit.models.atomic import require_space
from qwenkit.models.checkpoint import read_json
from qwenkit.models.convert import convert_checkpoint, plan_conversion
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.gguf_header import read_header
from qwenkit.quantize.gguf import quantize_gguf
from qwenkit.quantize.process import run_job
from qwenkit.quantize.types import tensor_type
from qwenkit.quantize.worker import Job

from .conftest import tensor_bytes, tensor_types


def quantize(source: Path, target: Path, name: str = "Q4_K_M", **options: Any) -> Any:
    return quantize_gguf(source, target, **({"type": name} | options), n_threads=1)


def test_q8_0_is_what_the_converter_writes(demo_f16: Path, tmp_path: Path) -> None:
    converted, made = tmp_path / "converted.gguf", tmp_path / "made.gguf"
    convert_checkpoint(DEMO_DIR, converted, dtype="q8_0")
    quantize(demo_f16, made, "Q8_0")
    ours, theirs = read_header(made), read_header(converted)
    assert tensor_types(made) == tensor_types(converted)
    for tensor in ours.tensors:
        assert tensor_bytes(ours, tensor.name) == tensor_bytes(theirs, tensor.name)


def test_metadata_is_kept_and_names_the_new_type(demo_f16: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.gguf"
    quantize(demo_f16, made)
    before, after = read_header(demo_f16).metadata, read_header(made).metadata
    changed = {key for key in after if before.get(key) != after[key]}
    assert changed == {"general.file_type"}
    assert after["general.file_type"] == 15


def test_the_report_says_what_was_written(demo_f16: Path, tmp_path: Path) -> None:
    made = quantize(demo_f16, tmp_path / "made.gguf")
    header = read_header(made.path)
    assert made.size_bytes == header.size_bytes
    assert made.source_bytes == demo_f16.stat().st_size
    assert sum(made.n_tensors.values()) == len(header.tensors)
    assert made.fallbacks == ()
    assert not made.with_imatrix


def test_the_first_pattern_that_finds_a_tensor_decides_its_type(
    demo_f16: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made.gguf"
    overrides = {r"blk\.0\.attn_v": "q8_0", r"attn_v": "q5_k", r"ffn_(up|gate)": "F16"}
    quantize(demo_f16, made, "Q4_0", overrides=overrides)
    types = tensor_types(made)
    assert types["blk.0.attn_v.weight"] == "Q8_0"
    assert types["blk.1.attn_v.weight"] == "Q5_K"
    assert types["blk.2.ffn_up.weight"] == types["blk.2.ffn_gate.weight"] == "F16"
    assert types["blk.0.attn_q.weight"] == "Q4_0"


def test_head_embeddings_and_purity_can_be_chosen(demo_f16: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.gguf"
    quantize(demo_f16, made, "Q4_0", output_type="bf16", embedding_type="q5_1")
    types = tensor_types(made)
    assert (types["output.weight"], types["token_embd.weight"]) == ("BF16", "Q5_1")
    quantize(demo_f16, made, "Q4_K_M", pure=True)
    assert set(tensor_types(made).values()) == {"F32", "Q4_K"}


def test_an_importance_matrix_changes_weights_and_is_named_in_the_file(
    demo_f16: Path, imatrix: Path, tmp_path: Path
) -> None:
    plain, weighed = tmp_path / "plain.gguf", tmp_path / "weighed.gguf"
    quantize(demo_f16, plain, "Q4_K_S")
    assert quantize(demo_f16, weighed, "Q4_K_S", imatrix=imatrix).with_imatrix
    name = "blk.0.attn_q.weight"
    with_it, without = read_header(weighed), read_header(plain)
    assert tensor_bytes(with_it, name) != tensor_bytes(without, name)
    assert with_it.text("quantize.imatrix.file") == "imatrix.gguf"
    assert with_it.text("quantize.imatrix.dataset") == "text"
    assert with_it.number("quantize.imatrix.entries_count") == 28
    assert with_it.number("quantize.imatrix.chunks_count") > 0


def test_progress_reaches_the_size_of_the_source(demo_f16: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    totals: list[int | None] = []

    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B") -> Iterator[Any]:
        totals.append(total)
        yield seen.append

    quantize(demo_f16, tmp_path / "made.gguf", "Q8_0", progress=progress)
    assert len([n for n in seen if n]) > 10
    assert totals == [sum(tensor.n_bytes for tensor in read_header(demo_f16).tensors)]
    # The last tensor is done when the work is.
    assert 0.9 * totals[0] < sum(seen) <= totals[0]


@pytest.fixture
def narrow(tmp_path: Path) -> Path:
    """The demo model with a feed-forward width that no block of 256 fits, and one of 32 does."""
    folder = tmp_path / "narrow"
    folder.mkdir()
    for path in DEMO_DIR.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = read_json(DEMO_DIR / "config.json") | {"intermediate_size": 480}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = load_file(DEMO_DIR / "model.safetensors")
    for name, values in weights.items():
        if "gate_proj" in name or "up_proj" in name:
            weights[name] = np.ascontiguousarray(values[:480])
        elif "down_proj" in name:
            weights[name] = np.ascontiguousarray(values[:, :480])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    target = tmp_path / "narrow.gguf"
    convert_checkpoint(folder, target)
    return target


def test_rows_that_no_block_fits_fall_back_and_are_reported(narrow: Path, tmp_path: Path) -> None:
    made = quantize(narrow, tmp_path / "made.gguf", "Q4_K_S")
    names = {each.tensor for each in made.fallbacks}
    assert names == {f"blk.{i}.ffn_down.weight" for i in range(4)}
    assert {(each.n_columns, each.wanted, each.given) for each in made.fallbacks} == {
        (480, "Q4_K", "Q5_0")
    }
    assert tensor_types(made.path)["blk.3.ffn_down.weight"] == "Q5_0"


def test_overrides_that_no_row_fits_fall_back_too(narrow: Path, tmp_path: Path) -> None:
    made = quantize(narrow, tmp_path / "made.gguf", "Q8_0", overrides={"ffn_down": "q6_k"})
    assert tensor_types(made.path)["blk.0.ffn_down.weight"] == "Q8_0"
    assert {each.wanted for each in made.fallbacks} == {"Q6_K"}


def test_a_split_model_becomes_one_file(demo_f16: Path, tmp_path: Path) -> None:
    conversion = plan_conversion(DEMO_DIR)
    writer = GGUFWriter(tmp_path / "split.gguf", "qwen3", split_max_tensors=20)
    for key, (value, kind) in conversion.metadata.items.items():
        writer.add_key_value(key, value, kind)
    for tensor in conversion.tensors:
        writer.add_tensor(tensor.name, np.concatenate(list(tensor.chunks())))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole, merged = tmp_path / "whole.gguf", tmp_path / "merged.gguf"
    first, *rest = sorted(tmp_path.glob("split-*.gguf"))
    assert len(rest) == 2
    quantize(demo_f16, whole)
    made = quantize(first, merged)
    assert made.source_bytes == sum(part.stat().st_size for part in (first, *rest))
    ours, theirs = read_header(merged), read_header(whole)
    assert ours.n_split == 1
    for each in theirs.tensors:
        assert tensor_bytes(ours, each.name) == tensor_bytes(theirs, each.name)


def test_a_quantised_source_takes_a_word(demo_f16: Path, tmp_path: Path) -> None:
    q8, made = tmp_path / "q8.gguf", tmp_path / "made.gguf"
    quantize(demo_f16, q8, "Q8_0")
    with pytest.raises(ModelUnsupported, match="Q8_0") as refused:
        quantize(q8, made)
    assert "--allow-requantize" in refused.value.hint
    assert not made.exists()
    quantize(q8, made, allow_requantize=True)
    assert "Q4_K" in tensor_types(made).values()


@pytest.mark.parametrize("name", ["IQ1_S", "IQ2_XXS", "IQ3_XXS", "Q2_K_S"])
def test_types_that_want_importance_are_refused_without(
    name: str, demo_f16: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="importance") as refused:
        quantize(demo_f16, tmp_path / "made.gguf", name)
    assert "--imatrix" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"overrides": {"attn_v": "iq2_xs"}}, "attn_v"),
        ({"embedding_type": "iq2_xs"}, "token_embd"),
        ({"overrides": {"attn_(v": "q8_0"}}, "regular expression"),
        ({"overrides": {"(?<!x)attn_v": "q8_0"}}, "ECMAScript"),
        ({"overrides": {"(?P<name>attn_v)": "q8_0"}}, "ECMAScript"),
        ({"overrides": {"atn_v": "q8_0"}}, "atn_v"),
        ({"overrides": {"attn_v": "q9"}}, "q9"),
        ({"output_type": "Q4_K_M"}, "Q4_K_M"),
        ({"type": "F16", "overrides": {"attn_v": "q8_0"}}, "F16"),
        ({"type": "Q5"}, "Q5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_cant_be_are_refused_before_the_work(
    options: dict[str, Any], named: str, demo_f16: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=named.replace("(", r"\(")):
        quantize(demo_f16, tmp_path / "made.gguf", **options)
    assert list(tmp_path.iterdir()) == []


def test_embeddings_get_no_type_that_wants_importance_even_with_a_matrix(
    demo_f16: Path, imatrix: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="token_embd"):
        quantize(demo_f16, tmp_path / "made.gguf", imatrix=imatrix, embedding_type="iq1_s")


def test_an_importance_matrix_of_another_model_is_refused(
    narrow: Path, imatrix: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="another model"):
        quantize(narrow, tmp_path / "made.gguf", "Q4_K_M", imatrix=imatrix)


def test_the_source_is_never_written_over(demo_f16: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    shutil.copy(demo_f16, source)
    (tmp_path / "link.gguf").symlink_to(source)
    for target in (source, tmp_path / "link.gguf"):
        with pytest.raises(UsageError, match="source"):
            quantize(source, target)
    assert source.read_bytes() == demo_f16.read_bytes()


def test_a_full_disk_is_refused_with_both_numbers(
    demo_f16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InvalidSettings, match="GB"):
        quantize(demo_f16, tmp_path / "made.gguf")
    with pytest.raises(InvalidSettings):
        require_space(tmp_path, 2_000_000, purpose="this")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(demo_f16: Path, tmp_path: Path) -> None:
    def interrupt(_: int) -> NoReturn:
        raise KeyboardInterrupt

    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B") -> Iterator[Any]:
        yield interrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(demo_f16, tmp_path / "made.gguf", progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_what_llama_cpp_says_of_a_failure_is_told(tmp_path: Path) -> None:
    job = Job(source=str(tmp_path / "none.gguf"), target=str(tmp_path / "made.gguf"), file_type=2)
    with pytest.raises(EngineError, match=r"none\.gguf"):
        run_job(job)


def test_llama_cpp_ending_its_process_does_not_end_ours(demo_f16: Path, tmp_path: Path) -> None:
    job = Job(
        source=str(demo_f16),
        target=str(tmp_path / "made.gguf"),
        file_type=2,
        embedding_type=int(tensor_type("IQ2_XXS")),
    )
    with pytest.raises(EngineError, match="GGML_ASSERT"):
        run_job(job)


def test_the_worker_ends_when_nobody_listens(demo_f16: Path, tmp_path: Path) -> None:
    job = Job(source=str(demo_f16), target=str(tmp_path / "made.gguf"), file_type=2)
    command = [sys.executable, "-P", "-m", "qwenkit.quantize.worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(job.as_json())
        process.stdin.close()
        assert process.wait(timeout=30) == 1


def test_a_module_in_the_current_folder_is_not_taken_for_ours(
    demo_f16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    quantize(demo_f16, tmp_path / "made.gguf")
