"""Training on two machines, played by two launches of accelerate's on this one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qwenkit.adapters.read import read_adapter
from qwenkit.cli.app import run
from qwenkit.models.demo import DEMO_NAME

pytestmark = [pytest.mark.parity, pytest.mark.slow]

WORDS = ("river", "stone", "cloud", "lamp", "paper", "garden", "winter", "copper")
OPTIONS = (
    *("--n-steps", "4", "--accumulate", "2", "--rank", "4", "--max-length", "128"),
    *("--no-packing", "--n-threads", "1"),
)


def write_rows(path: Path) -> Path:
    rows = [
        {"prompt": f"What about {word} {n}?", "completion": f"A {word} is number {n}."}
        for n in range(4)
        for word in WORDS
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def launch(folder: Path, rank: int, port: int) -> subprocess.Popen[bytes]:
    """One machine's share: its own rows, its own home, its own output."""
    rows = write_rows(folder / "rows.jsonl")
    command = [
        *(sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu"),
        *("--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank)),
        *("--main_process_ip", "127.0.0.1", "--main_process_port", str(port)),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "-m", "qwenkit"),
        *("finetune", DEMO_NAME, str(rows), "-o", str(folder / "run"), *OPTIONS, "--json"),
    ]
    environment = {
        "ACCELERATE_USE_CPU": "true",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "QWENKIT_HOME": str(folder / "home"),
    }
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def test_two_machines_learn_what_one_process_learns_of_batches_twice_as_large(
    tmp_path: Path,
) -> None:
    port = free_port()
    nodes = [launch(tmp_path / f"node{rank}", rank, port) for rank in range(2)]
    said = [node.communicate(timeout=900) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert json.loads(said[0][0])["n_steps"] == 4
    assert said[1][0] == b""  # one machine writes and talks for all
    assert not (tmp_path / "node1" / "run" / "adapter").exists()

    rows = write_rows(tmp_path / "one" / "rows.jsonl")
    one = tmp_path / "one" / "run"
    args = ["finetune", DEMO_NAME, str(rows), "-o", str(one), *OPTIONS, "--batch-size", "2"]
    assert run(args) == 0
    together, alone = (
        read_adapter(folder / "adapter").pairs for folder in (tmp_path / "node0" / "run", one)
    )
    assert any(np.abs(pair.b).max() > 1e-4 for pair in alone)
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours.b, theirs.b, atol=1e-5)
        np.testing.assert_allclose(ours.a, theirs.a, atol=1e-5)
