"""A `qwenkit serve` of its own over the demo model, in a process that can be measured.

Knows the process, its files and its page of metrics; not what is asked of it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from safetensors.numpy import save_file

from qwenkit.adapters.base import base_of_checkpoint
from qwenkit.models.demo import DEMO_DIR

USER_KEY = "user-key-of-the-stage"
ADMIN_KEY = "admin-key-of-the-stage"
START_S = 300.0
STOP_S = 30.0
TARGETS = ("q_proj", "v_proj")
_SAMPLE = re.compile(r"^(\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the server's process holds.

    Args:
        rss_mb: Resident memory.
        n_fds: Open files and sockets.
        n_threads: Threads.
    """

    rss_mb: float
    n_fds: int
    n_threads: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A server that runs.

    Args:
        url: Where.
        folder: Where its adapters, its log and its home are.
        process: Its process.
    """

    url: str
    folder: Path
    process: psutil.Process

    @property
    def adapters(self) -> list[Path]:
        """Adapters that it may load; the last two are versions of one."""
        return sorted((self.folder / "adapters").iterdir())

    @property
    def log(self) -> str:
        """What it has written to its standard error."""
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def memory(self) -> Memory:
        """What the process holds now."""
        with self.process.oneshot():
            return Memory(
                self.process.memory_info().rss / 2**20,
                self.process.num_fds(),
                self.process.num_threads(),
            )

    def gauges(self) -> dict[str, float]:
        """Its metrics; those with labels are summed."""
        page = httpx.get(f"{self.url}/metrics", headers=bearer(ADMIN_KEY), timeout=30).text
        gauges: dict[str, float] = {}
        for name, value in _SAMPLE.findall(page):
            gauges[name] = gauges.get(name, 0.0) + float(value)
        return gauges

    def wait_idle(self, timeout_s: float = 60.0) -> dict[str, float]:
        """The metrics, once no slot is taken and nothing waits, or after the time."""
        deadline = time.monotonic() + timeout_s
        while True:
            now = self.gauges()
            busy = now["qwenkit_slots_used"] or now["qwenkit_queue_length"]
            if not busy or time.monotonic() > deadline:
                return now
            time.sleep(0.2)


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def stage(folder: Path, **settings: Any) -> Iterator[Stage]:
    """A server over the demo model in `folder`, until the block ends.

    Args:
        settings: More of its environment, by the settings' names in lower case.

    Raises:
        RuntimeError: It ended before it was ready, or did not become ready.
    """
    for seed in range(3):
        write_adapter(folder / "adapters" / f"adapter-{seed}", seed)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "qwenkit", "serve", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        running = subprocess.Popen(
            command, cwd=folder, env=_environment(folder, settings), stdout=log, stderr=log
        )
    try:
        _await_ready(url, running, folder)
        yield Stage(url, folder, psutil.Process(running.pid))
    finally:
        _stop(running)


def write_adapter(folder: Path, seed: int) -> Path:
    """A PEFT folder for the demo model, with random numbers in it."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for module, (n_out, n_in) in base_of_checkpoint(DEMO_DIR).layers.items():
        if module.endswith(TARGETS):
            a, b = rng.standard_normal((4, n_in)), rng.standard_normal((n_out, 4))
            prefix = f"base_model.model.{module}"
            tensors[f"{prefix}.lora_A.weight"] = (a / n_in).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = (b / 10).astype(np.float32)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": [*TARGETS]}
    folder.mkdir(parents=True)
    text = json.dumps({**config, "bias": "none", "task_type": "CAUSAL_LM"})
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def _environment(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    given = {
        "qwenkit_home": folder / "home",
        "log_dir": folder / "logs",
        "lora_dirs": folder / "adapters",
        "api_keys": USER_KEY,
        "admin_api_keys": ADMIN_KEY,
        "n_threads": 1,
        "n_parallel": 8,
        "n_ctx": 4096,
        # Kept states fill this shelf first, and memory can't be flat before it is full.
        "cache_ram_mb": 8,
        **settings,
    }
    own = {name.upper(): str(value) for name, value in given.items()}
    return {**kept, "HOME": str(folder), "OMP_NUM_THREADS": "1", **own}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _await_ready(url: str, running: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if running.poll() is not None:
            break
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError((folder / "server.log").read_text(encoding="utf-8", errors="replace"))


def _stop(running: subprocess.Popen[bytes]) -> None:
    running.terminate()
    try:
        running.wait(STOP_S)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
