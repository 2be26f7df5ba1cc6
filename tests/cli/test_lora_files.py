"""`qwenkit lora convert` and `merge`, as a shell sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from qwenkit.cli.app import run
from qwenkit.models.demo import DEMO_NAME


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def write_adapter(folder: Path, *, n_in: int = 256, **config: Any) -> Path:
    folder.mkdir()
    prefix = "base_model.model.model.layers.1.self_attn.q_proj"
    tensors = {
        f"{prefix}.lora_A.weight": np.full((2, n_in), 0.5, np.float32),
        f"{prefix}.lora_B.weight": np.full((256, 2), 0.25, np.float32),
    }
    if config.get("use_dora"):
        tensors[f"{prefix}.lora_magnitude_vector"] = np.ones(256, np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(fields | config), encoding="utf-8")
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of one matrix of the demo model."""
    return write_adapter(tmp_path / "adapter")


def test_convert_prints_the_path_alone_on_stdout(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lora", "convert", "adapter", "a.gguf", "--base", DEMO_NAME, "--check"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "a.gguf\n"
    assert "rank 2 on q_proj" in shown.err
    assert "checked 1 matrices" in shown.err


def test_convert_speaks_json(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lora", "convert", "adapter", "a.gguf", "--json", "--check"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["path"] == "a.gguf"
    assert (made["format"], made["rank"], made["alpha"]) == ("gguf", 2, 4.0)
    assert (made["targets"], made["n_params"]) == (["q_proj"], 2 * 512)
    assert made["check"]["max_abs"] == 0.0
    assert made["check"]["n_matrices"] == 1


@pytest.mark.parametrize("target", ["merged", "merged.gguf"])
def test_merge_prints_the_path_alone_on_stdout(
    adapter: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    assert run(["lora", "merge", DEMO_NAME, "adapter", target, "--check"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{target}\n"
    assert "1 matrices changed" in shown.err
    assert "checked 47 matrices" in shown.err
    assert run(["model", "info", target, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_layers"] == 4


def test_merge_speaks_json(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["lora", "merge", DEMO_NAME, "adapter", "m", "--scale", "0.5", "--dtype", "f32"]
    assert run([*args, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["format"], made["n_merged"], made["check"]) == ("safetensors", 1, None)


@pytest.mark.parametrize(
    "args",
    [["convert", "adapter", "out.gguf"], ["merge", DEMO_NAME, "adapter", "out.gguf"]],
)
def test_a_file_is_replaced_only_by_force(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    (tmp_path / "out.gguf").write_bytes(b"precious")
    assert run(["lora", *args]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "out.gguf").read_bytes() == b"precious"
    assert run(["lora", *args, "--force"]) == 0
    assert (tmp_path / "out.gguf").read_bytes().startswith(b"GGUF")


def test_an_adapter_of_another_model_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_adapter(tmp_path / "wide", n_in=512)
    for args in (
        ["convert", "wide", "a.gguf", "--base", DEMO_NAME],
        ["merge", DEMO_NAME, "wide", "m"],
    ):
        assert run(["lora", *args]) == 4
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "[256, 512]" in shown.err
        assert "[256, 256]" in shown.err


def test_what_makes_no_sense_is_a_mistake_of_the_caller(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for args in (
        ["convert", "adapter", "a.bin"],
        ["convert", "adapter", "a.onnx_adapter"],
        ["convert", "adapter", "a.gguf", "--format", "pickle"],
        ["merge", DEMO_NAME, "adapter", "m", "--dtype", "q8_0"],
        ["merge", DEMO_NAME, "adapter", "m", "--scale", "nan"],
        [],
    ):
        assert run(["lora", *args]) == 2
        assert capsys.readouterr().out == ""


def test_a_dora_is_refused_with_the_way_out_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_adapter(tmp_path / "dora", use_dora=True)
    assert run(["lora", "convert", "dora", "a.gguf"]) == 4
    assert "hint: merge it into its base: `qwenkit lora merge`" in capsys.readouterr().err
    assert run(["lora", "merge", DEMO_NAME, "dora", "m"]) == 0
