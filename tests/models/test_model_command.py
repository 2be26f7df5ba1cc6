"""`qwenkit model`, as a shell sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwenkit.cli.app import run


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_convert_info_and_list_speak_json(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "home" / "models" / "m.gguf"
    assert run(["model", "convert", str(checkpoint), str(target), "--dtype", "q8_0", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["types"][0] == {"type": "Q8_0", "n_tensors": 15, "n_bytes": 43_520}
    assert run(["model", "info", "m.gguf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made
    assert run(["model", "list", "--json"]) == 0
    assert str(target) in [entry["path"] for entry in json.loads(capsys.readouterr().out)]


def test_pull_prints_the_path_alone_on_stdout(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["model", "pull", str(checkpoint)]) == 0
    shown = capsys.readouterr()
    assert Path(shown.out.strip()).suffix == ".gguf"
    assert Path(shown.out.strip()).exists()
    assert "qwenkit serve" in shown.err


def test_info_and_list_show_tables(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "info", str(checkpoint)]) == 0
    assert "41,184" in capsys.readouterr().out
    assert run(["model", "list"]) == 0
    assert "qwenkit-demo" in capsys.readouterr().out


def test_convert_replaces_a_file_only_by_force(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(b"precious")
    assert run(["model", "convert", str(checkpoint), str(target)]) == 2
    assert target.read_bytes() == b"precious"
    assert "--force" in capsys.readouterr().err
    assert run(["model", "convert", str(checkpoint), str(target), "--force"]) == 0
    assert target.read_bytes().startswith(b"GGUF")


def test_failures_are_one_sentence_and_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert run(["model", "info", "m.gguf"]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: `m.gguf` is not a sound GGUF file")
    assert "hint: " in shown.err
