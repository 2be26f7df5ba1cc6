"""`qwenkit export-onnx`, as a shell sees it; what it refuses takes no torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from qwenkit.cli.app import run
from qwenkit.models.demo import DEMO_DIR, DEMO_NAME


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--precision", "fp16"], "fp16"),
        (["--precision", "fp32", "--provider", "cuda"], "CUDA"),
        (["--precision", "int2"], "int2"),
        (["--block-size", "33"], "33"),
        (["--accuracy-level", "7"], "7"),
        (["--precision", "fp32", "--block-size", "32"], "block size"),
        (["--precision", "fp16", "--provider", "cuda", "--asymmetric"], "symmetric"),
        (["--exporter", "optimum", "--provider", "cuda"], "Optimum"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cant_be_end_with_code_2_and_a_hint(
    flags: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export-onnx", DEMO_NAME, "model", *flags]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert named in shown.err
    assert "hint:" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_takes_force(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model").mkdir()
    assert run(["export-onnx", DEMO_NAME, "model"]) == 2
    assert "--force" in capsys.readouterr().err


def test_optimum_takes_a_folder_and_no_hub_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export-onnx", "Qwen/Qwen3-8B", "model", "--exporter", "optimum"]) == 2
    assert "Qwen/Qwen3-8B" in capsys.readouterr().err


def test_force_does_not_replace_what_is_no_export(capsys: pytest.CaptureFixture[str]) -> None:
    Path("letters").mkdir()
    Path("letters/dear.txt").write_text("you", encoding="utf-8")
    assert run(["export-onnx", DEMO_NAME, "letters", "--force"]) == 2
    assert "no exported model" in capsys.readouterr().err
    assert Path("letters/dear.txt").exists()


@pytest.mark.parametrize(
    ("model", "code"), [("nowhere", 4), ("a.gguf", 4)], ids=["nothing there", "no safetensors"]
)
def test_what_is_no_checkpoint_ends_with_code_4(
    model: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.gguf").write_bytes(b"GGUF")
    assert run(["export-onnx", model, "out"]) == code
    assert model in capsys.readouterr().err
    assert not Path("out").exists()


def test_another_architecture_ends_with_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("moe")
    folder.mkdir()
    for path in DEMO_DIR.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert run(["export-onnx", "moe", "out"]) == 4
    assert "Qwen3MoeForCausalLM" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "extra"), [([], "export"), (["--exporter", "optimum"], "")])
def test_without_torch_it_says_what_to_install(
    flags: list[str],
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run(["export-onnx", DEMO_NAME, "model", *flags]) == 3
    shown = capsys.readouterr().err
    assert "`torch` is not installed" in shown
    assert (f"qwenkit[{extra}]" if extra else "environment of its own") in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parity
def test_it_shows_tables_and_ends_with_the_command_that_serves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["export-onnx", DEMO_NAME, "model", "--precision", "fp32", "--check"]) == 0
    shown = capsys.readouterr()
    assert "LoRA slots" in shown.out
    assert "Largest error" in shown.out
    assert "MODEL_PATH=model qwenkit serve" in shown.err


@pytest.mark.parity
def test_json_is_all_that_stdout_gets(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--json", "--check", "--n-ctx", "8192", "--precision", "fp32"]
    assert run(["export-onnx", DEMO_NAME, "model", *flags]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["path"], made["n_ctx"], made["yarn_factor"]) == ("model", 8192, 2.0)
    assert made["options"]["precision"] == "fp32"
    assert made["check"]["max_error"] < 1e-4
    assert len(made["check"]["prompts"]) > 1
