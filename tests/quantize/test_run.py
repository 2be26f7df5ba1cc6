"""Several types at once: where they go, what importance comes from, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwenkit.errors import InvalidRequest, UsageError
from qwenkit.quantize.imatrix import read_imatrix
from qwenkit.quantize.run import (
    QuantizeOptions,
    ReportOptions,
    check_targets,
    parse_overrides,
    plan_targets,
    quantize,
)

from .conftest import TEXT

ONE_WINDOW = ReportOptions(n_ctx=128, n_windows=1)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("Qwen3-8B", "Qwen3-8B"),
        ("Qwen3-8B-BF16", "Qwen3-8B"),
        ("Qwen3-8B-GGUF:BF16", "Qwen3-8B"),
        ("demo.Q8_0", "demo"),
        ("Q8_0", "Q8_0"),
    ],
)
def test_files_are_named_after_the_model_and_their_type(name: str, stem: str) -> None:
    assert plan_targets(["q4_k_m", "Q4_K_M", "q8_0"], Path("out"), name=name) == {
        "Q4_K_M": Path(f"out/{stem}-Q4_K_M.gguf"),
        "Q8_0": Path(f"out/{stem}-Q8_0.gguf"),
    }


def test_one_type_may_have_a_file_and_several_need_a_folder() -> None:
    assert plan_targets(["q8_0"], Path("a.gguf"), name="m") == {"Q8_0": Path("a.gguf")}
    assert plan_targets(["q8_0"], None, name="m") == {"Q8_0": Path("m-Q8_0.gguf")}
    with pytest.raises(UsageError, match="2 types"):
        plan_targets(["q8_0", "q4_0"], Path("a.gguf"), name="m")


def test_overrides_are_pairs_and_a_pattern_may_hold_an_equals_sign() -> None:
    assert parse_overrides(["a=q8_0", "b=c=f16"]) == {"a": "q8_0", "b=c": "f16"}
    for bad in ("attn_v", "=q8_0", "attn_v="):
        with pytest.raises(InvalidRequest, match=bad):
            parse_overrides([bad])


def test_a_pattern_with_two_types_is_refused() -> None:
    assert parse_overrides(["a=q8_0", "a=q8_0"]) == {"a": "q8_0"}
    with pytest.raises(InvalidRequest, match="two types"):
        parse_overrides(["a=q8_0", "b=f16", "a=q5_0"])


def test_targets_that_cant_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    there = tmp_path / "there.gguf"
    there.write_bytes(b"")
    check_targets([there, tmp_path / "new" / "a.gguf"], replace=True)
    for paths in ([tmp_path], [there / "a.gguf"], [there, tmp_path / "new", there]):
        with pytest.raises(UsageError):
            check_targets(paths, replace=True)
    with pytest.raises(UsageError, match="there already"):
        check_targets([there], replace=False)


def test_a_folder_that_may_not_be_written_to_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # whoever runs the tests may be root
    with pytest.raises(UsageError, match="nothing may be written"):
        check_targets([tmp_path / "new" / "a.gguf"], replace=False)


def test_all_types_stand_in_one_report(demo_f16: Path, tmp_path: Path) -> None:
    targets = plan_targets(["Q8_0", "Q4_0"], tmp_path, name="demo")
    made = quantize(demo_f16, targets, QuantizeOptions(n_threads=1), report=ONE_WINDOW)
    assert [model.path for model in made.models] == list(targets.values())
    assert made.labels == ("source, F16", "Q8_0", "Q4_0")
    assert [quality.path for quality in made.qualities] == [demo_f16, *targets.values()]
    assert made.qualities[1].divergence.mean < made.qualities[2].divergence.mean


def test_without_a_report_nothing_is_measured(demo_f16: Path, tmp_path: Path) -> None:
    targets = plan_targets(["Q8_0"], tmp_path, name="demo")
    made = quantize(demo_f16, targets, QuantizeOptions(n_threads=1))
    assert (made.qualities, made.text) == ((), "")


@pytest.mark.parametrize("kind", ["text", "jsonl", "builtin"])
def test_importance_comes_from_texts_training_data_and_ours(
    kind: str, demo_f16: Path, tmp_path: Path
) -> None:
    data = {"text": str(tmp_path / "a.txt"), "jsonl": str(tmp_path / "a.jsonl")}.get(kind, kind)
    if kind == "text":
        Path(data).write_text(TEXT, encoding="utf-8")
    elif kind == "jsonl":
        messages = [{"role": "user", "content": TEXT}]
        Path(data).write_text(json.dumps({"messages": messages}), encoding="utf-8")
    kept = tmp_path / "kept.gguf"
    options = QuantizeOptions(imatrix=data, save_imatrix=kept, n_threads=1)
    made = quantize(demo_f16, {"Q4_0": tmp_path / "made.gguf"}, options)
    assert made.models[0].with_imatrix
    assert read_imatrix(kept).n_chunks >= 1


def test_an_importance_matrix_is_used_as_it_is(
    demo_f16: Path, imatrix: Path, tmp_path: Path
) -> None:
    options = QuantizeOptions(imatrix=str(imatrix), n_threads=1)
    made = quantize(demo_f16, {"Q4_0": tmp_path / "made.gguf"}, options)
    assert made.models[0].with_imatrix


def test_an_importance_matrix_that_was_there_is_not_saved_again(
    demo_f16: Path, imatrix: Path, tmp_path: Path
) -> None:
    options = QuantizeOptions(imatrix=str(imatrix), save_imatrix=tmp_path / "kept.gguf")
    with pytest.raises(UsageError, match="no other to save"):
        quantize(demo_f16, {"Q4_0": tmp_path / "made.gguf"}, options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (QuantizeOptions(imatrix="nowhere.txt"), "nowhere"),
        (QuantizeOptions(imatrix="~nobody-of-that-name/a.txt"), "nobody"),
        (QuantizeOptions(save_imatrix=Path("kept.gguf")), "importance"),
    ],
    ids=["no data", "data of nobody", "nothing to keep"],
)
def test_importance_that_cant_be_is_refused_before_the_work(
    options: QuantizeOptions, named: str, demo_f16: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=named):
        quantize(demo_f16, {"Q8_0": tmp_path / "made.gguf"}, options)
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_cant_be_read_is_refused_before_the_work(
    demo_f16: Path, tmp_path: Path
) -> None:
    report = ReportOptions(text=tmp_path / "none.txt")
    with pytest.raises(InvalidRequest):
        quantize(demo_f16, {"Q8_0": tmp_path / "made.gguf"}, QuantizeOptions(), report=report)
    assert list(tmp_path.iterdir()) == []
