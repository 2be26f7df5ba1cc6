"""Several processes that train one model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qwenkit.adapters.read import read_adapter
from qwenkit.cli.app import run
from qwenkit.models.demo import DEMO_NAME

pytestmark = pytest.mark.parity

OPTIONS = (
    *("--n-steps", "4", "--accumulate", "2", "--rank", "4", "--max-length", "128"),
    *("--no-packing", "--save-every", "2", "--n-threads", "1", "--eval", "0.2"),
)


def launched(*args: object) -> subprocess.CompletedProcess[bytes]:
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--main_process_port", "0", "-m", "qwenkit"]
    return subprocess.run(
        [*launch, "finetune", DEMO_NAME, *args],
        capture_output=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )


def test_what_goes_wrong_in_all_processes_is_said_once(rows: Path, tmp_path: Path) -> None:
    done = launched(rows, "-o", tmp_path / "run", "--method", "dpo")
    assert done.returncode != 0
    assert done.stderr.decode().count("hint: ") == 1
    assert not (tmp_path / "run").exists()


def test_two_processes_learn_what_one_learns_of_batches_twice_as_large(
    rows: Path, tmp_path: Path
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    done = launched(rows, "-o", two, *OPTIONS, "--json")
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)  # one process talks, so there is one report
    assert report["n_steps"] == 4
    args = ["finetune", DEMO_NAME, str(rows), "-o", str(one), *OPTIONS, "--batch-size", "2"]
    assert run(args) == 0
    config = json.loads((two / "config.json").read_text("utf-8"))
    assert config["made_for"]["n_processes"] == 2
    assert sorted(path.name for path in (two / "checkpoints").iterdir()) == ["step-2"]
    pairs = [read_adapter(folder / "adapter").pairs for folder in (one, two)]
    assert any(np.abs(pair.b).max() > 1e-4 for pair in pairs[0])
    for ours, theirs in zip(*pairs, strict=True):
        np.testing.assert_allclose(ours.b, theirs.b, atol=1e-5)
        np.testing.assert_allclose(ours.a, theirs.a, atol=1e-5)
