"""The demo model for every runtime, rows to decode, and short ways to ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from qwenkit.backends.base import AdapterUse, Backend, FloatArray, Rows, Tokenizer
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.resolve import resolve

QUESTIONS = [
    "What is qwenkit?",
    "How do I serve a model?",
    "hello",
    "Tell me a long story about a small model that wanted to be large, and what became of it.",
    "2 + 2",
    "What is qwenkit for?",
]


@pytest.fixture(scope="session")
def demo_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model for llama.cpp, in float32."""
    return resolve(None, home=tmp_path_factory.mktemp("home"), dtype="f32").path


@pytest.fixture(scope="session")
def demo_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model for ONNX Runtime, in float32, with LoRA slots and hidden states."""
    from qwenkit.export.onnx_folder import export_onnx
    from qwenkit.export.options import ExportOptions

    folder = tmp_path_factory.mktemp("exported") / "demo"
    export_onnx(DEMO_DIR, folder, ExportOptions(precision="fp32"))
    return folder


def rows(
    tokens: Sequence[int],
    *,
    start: int = 0,
    slot: int = 0,
    every: bool = False,
    adapter: AdapterUse | None = None,
) -> Rows:
    n = len(tokens)
    return Rows(
        np.array(tokens, np.int32),
        np.arange(start, start + n, dtype=np.int32),
        np.full(n, slot, np.int32),
        np.array([int(every)] * (n - 1) + [1], np.int8),
        adapter,
    )


def together(*parts: Rows) -> Rows:
    names = ("tokens", "positions", "slots", "wants_logits")
    return Rows(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def one_by_one(backend: Backend, tokens: Sequence[int], slot: int) -> FloatArray:
    each = [
        backend.decode(rows([token], start=i, slot=slot))[0].copy()
        for i, token in enumerate(tokens)
    ]
    return np.array(each)


def prompt_of(tokenizer: Tokenizer, question: str) -> list[int]:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer.encode(text, special=True)


def embed(backend: Backend, tokens: Sequence[int]) -> FloatArray:
    steps = backend.embed(np.array(tokens, np.int32))
    try:
        while True:
            next(steps)
    except StopIteration as done:
        vector: FloatArray = done.value
        return vector
