"""A reader with a terminal, a folder and a home of its own, and the demo model under every name."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwenkit.models.resolve import resolve

from .given import put_models
from .reader import Reader
from .shell import Shell

KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")


@pytest.fixture(scope="session")
def demo_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resolve(None, home=tmp_path_factory.mktemp("home")).path


@pytest.fixture
def env(tmp_path: Path, demo_gguf: Path) -> dict[str, str]:
    """All that a reader's programs see of this machine."""
    home = tmp_path / "home"
    put_models(home / ".cache" / "qwenkit" / "models", gguf=demo_gguf)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "PORT": str(port),
        "N_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "DRAIN_TIMEOUT_S": "0",
        "MPLCONFIGDIR": str(home / "matplotlib"),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def reader(
    folder: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Reader]]:
    """Makes one, of how long each command may take and of what the page's addresses stand for."""
    for name in ("HOME", "HF_HUB_OFFLINE", "N_THREADS"):
        monkeypatch.setenv(name, env[name])
    with Shell(folder, env) as shell:
        yield lambda timeout_s, instead: Reader(shell, folder, env["PORT"], timeout_s, instead)
