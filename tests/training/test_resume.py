"""A run that is killed, stopped or refused, and what it goes on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

import pytest

from qwenkit.cli.app import run
from qwenkit.models.demo import DEMO_NAME

pytestmark = pytest.mark.parity

N_STEPS = 24
OPTIONS = (
    *("--n-steps", str(N_STEPS), "--accumulate", "2", "--max-length", "128"),
    *("--rank", "4", "--dropout", "0.1", "--save-every", "3", "--n-threads", "1"),
)


def lines(folder: Path) -> list[dict[str, float]]:
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def wait_for_step(process: BaseProcess | subprocess.Popen[bytes], folder: Path, step: int) -> None:
    """Until the run has come to a step; a run that ends before is a failure."""
    while not any(line["step"] >= step for line in lines(folder)):
        if isinstance(process, subprocess.Popen):
            assert process.poll() is None
            os.sched_yield()
        else:
            process.join(timeout=0.002)
            assert process.is_alive()


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_run_killed_at_random_steps_ends_with_the_bits_of_one_that_never_was(
    start: Callable[..., BaseProcess], rows: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    never_killed = start("finetune", DEMO_NAME, str(rows), "-o", str(whole), *OPTIONS)
    process = start("finetune", DEMO_NAME, str(rows), "-o", str(killed), *OPTIONS)
    for step in sorted(Random(1).sample(range(2, N_STEPS), 5)):
        wait_for_step(process, killed, step)
        process.kill()
        process.join()
        process = start("finetune", "--resume", str(killed))
    process.join()
    never_killed.join()
    assert weights(killed) == weights(whole)
    losses = [[line["loss"] for line in lines(folder)] for folder in (whole, killed)]
    assert losses[0] == losses[1]
    assert [line["step"] for line in lines(killed)] == list(range(1, N_STEPS + 1))


def test_a_run_that_is_asked_to_stop_saves_and_says_how_to_go_on(
    rows: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "qwenkit", "finetune", DEMO_NAME, rows, "-o", folder),
            *(*OPTIONS, "--n-steps", "4000", "--save-every", "0"),
        ],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        wait_for_step(process, folder, 2)
        process.send_signal(signal.SIGTERM)
        _, shown = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert f"--resume {folder}" in shown.decode()
    last = int(lines(folder)[-1]["step"])
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step-{last}"]
    assert (folder / "loss.png").exists()


def test_another_run_than_the_one_that_is_resumed_is_refused(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    few = ("--n-steps", "2", "--accumulate", "1", "--rank", "2", "--max-length", "128")
    assert run(["finetune", DEMO_NAME, str(rows), "-o", str(folder), *few]) == 0
    (folder / "report.json").unlink()
    capsys.readouterr()
    assert run(["finetune", "--resume", str(folder), "--rank", "8"]) == 2
    assert "rank was 2 and is 8" in capsys.readouterr().err
    rows.write_text(rows.read_text("utf-8").replace("giraffe", "camel"), encoding="utf-8")
    assert run(["finetune", "--resume", str(folder)]) == 2
    assert "train was" in capsys.readouterr().err


def test_a_run_that_was_killed_at_its_end_only_ends_again(rows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    few = ("--n-steps", "3", "--accumulate", "1", "--rank", "2", "--max-length", "128")
    args = ["finetune", DEMO_NAME, str(rows), "-o", str(folder), *few, "--eval", "0.2"]
    assert run(args) == 0
    before = weights(folder), (folder / "report.json").read_bytes()
    measured = lines(folder)
    for name in ("report.json", "adapter.gguf", "adapter.onnx_adapter"):
        (folder / name).unlink()
    assert run(["finetune", "--resume", str(folder)]) == 0
    assert weights(folder) == before[0]
    assert (folder / "adapter.onnx_adapter").exists()
    report, old = (json.loads(text) for text in ((folder / "report.json").read_bytes(), before[1]))
    assert report["after"] == old["after"]
    assert report["n_steps"] == report["resumed_from"] == 3
    assert report["tokens_per_s"] is None
    assert lines(folder) == measured


def test_a_run_goes_on_from_another_folder_with_its_data_named_anew(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--n-steps", "2", "--accumulate", "1", "--rank", "2", "--max-length", "128")
    monkeypatch.chdir(tmp_path)
    assert run(["finetune", DEMO_NAME, rows.name, "-o", "run", *few]) == 0
    (tmp_path / "run" / "report.json").unlink()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert run(["finetune", "--resume", "../run"]) == 2
    assert run(["finetune", DEMO_NAME, str(rows), "--resume", "../run"]) == 0
    choices = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["choices"]
    assert choices["data"] == [str(rows)]
