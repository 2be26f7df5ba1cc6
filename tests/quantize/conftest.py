"""The demo model as a GGUF, a text for it, and an importance matrix of that text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.gguf_header import GgufHeader, read_header
from qwenkit.quantize.activations import compute_imatrix

TEXT = " ".join(f"qwenkit serves model {i} and {i * i} tokens of it, or none." for i in range(60))


@pytest.fixture(scope="session")
def demo_f16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("gguf") / "demo-F16.gguf"
    convert_checkpoint(DEMO_DIR, target)
    return target


@pytest.fixture(scope="session")
def imatrix(demo_f16: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("imatrix") / "imatrix.gguf"
    compute_imatrix(demo_f16, target, source=TEXT, n_ctx=256, n_threads=1)
    return target


def tensor_bytes(header: GgufHeader, name: str) -> bytes:
    tensor = next(each for each in header.tensors if each.name == name)
    start = header.data_offset + tensor.offset
    return bytes(np.memmap(header.path, np.uint8, "r")[start : start + tensor.n_bytes])


def tensor_types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.type.name for tensor in read_header(path).tensors}
