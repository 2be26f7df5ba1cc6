"""The demo model as GGUF files, and a text that it knows something about."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR

TEXT = " ".join(f"qwenkit serves model {i} and {i * i} tokens of it, or none." for i in range(60))


@pytest.fixture(scope="session")
def demo_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("gguf") / "demo-F32.gguf"
    convert_checkpoint(DEMO_DIR, target, dtype="f32")
    return target


@pytest.fixture(scope="session")
def demo_q8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("gguf") / "demo-Q8_0.gguf"
    convert_checkpoint(DEMO_DIR, target, dtype="q8_0")
    return target
