"""llama.cpp against transformers in float32, on the demo model: stretched contexts, embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.backends.base import FloatArray, Rows
from qwenkit.backends.llamacpp.backend import LlamaBackend
from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.resolve import resolve

from .conftest import embed

pytestmark = pytest.mark.parity

ORIGINAL_CTX = 256
FACTOR = 4


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resolve(None, home=tmp_path_factory.mktemp("home"), dtype="f32").path


def load(path: Path, **options: Any) -> LlamaBackend:
    made = LlamaOptions(
        n_ctx=FACTOR * ORIGINAL_CTX, n_slots=1, n_batch=128, n_threads=1, kv_type="f32", **options
    )
    return LlamaBackend(path, content_id="demo", options=made)


@pytest.fixture(scope="module")
def plain(gguf: Path) -> Iterator[LlamaBackend]:
    backend = load(gguf)
    yield backend
    backend.close()


def reference(tokens: list[int], **config: Any) -> Any:
    import torch
    from transformers import Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32, **config)
    with torch.no_grad():
        return model(torch.tensor([tokens]), output_hidden_states=True)


def all_logits(backend: LlamaBackend, tokens: list[int]) -> FloatArray:
    """Logits behind the last tokens of each batch, which is as many as want them at once."""
    n_batch, n_outputs = backend.capabilities.n_batch, backend.capabilities.n_outputs
    parts = []
    for start in range(0, len(tokens), n_batch):
        chunk = np.array(tokens[start : start + n_batch], np.int32)
        wanted = np.zeros(len(chunk), np.int8)
        wanted[-n_outputs:] = 1
        positions = np.arange(start, start + len(chunk), dtype=np.int32)
        rows = Rows(chunk, positions, np.zeros(len(chunk), np.int32), wanted)
        parts.append(backend.decode(rows).copy())
    return np.concatenate(parts)


def test_a_context_stretched_by_yarn_gives_transformers_logits_to_its_end(gguf: Path) -> None:
    rng = np.random.default_rng(0)
    backend = load(gguf, yarn_factor=float(FACTOR), yarn_original_ctx=ORIGINAL_CTX)
    n = FACTOR * ORIGINAL_CTX
    tokens = rng.integers(0, backend.tokenizer.n_vocab - 26, n).tolist()
    yarn = {
        "rope_type": "yarn",
        "rope_theta": 1_000_000,
        "factor": float(FACTOR),
        "original_max_position_embeddings": ORIGINAL_CTX,
    }
    expected = reference(tokens, rope_parameters=yarn, max_position_embeddings=n).logits[0].numpy()
    n_outputs, n_batch = backend.capabilities.n_outputs, backend.capabilities.n_batch
    rows = [i for i in range(n) if i % n_batch >= n_batch - n_outputs]
    np.testing.assert_allclose(all_logits(backend, tokens), expected[rows], atol=1e-3)
    backend.close()
    # Without stretching the far end comes out otherwise: the comparison above can fail.
    unstretched = reference(tokens, max_position_embeddings=n).logits[0, -1].numpy()
    assert np.abs(unstretched - expected[-1]).max() > 0.1


def test_an_embedding_is_the_mean_of_the_last_hidden_states(plain: LlamaBackend) -> None:
    text = "A sentence that is long enough to be computed in more than one chunk. " * 8
    tokens = plain.tokenizer.encode(text)
    assert len(tokens) > 128
    vector = embed(plain, tokens)
    expected = reference(tokens).hidden_states[-1][0].mean(0).numpy()
    np.testing.assert_allclose(vector, expected, atol=1e-2 * np.abs(expected).max())
    cosine = vector @ expected / np.linalg.norm(vector) / np.linalg.norm(expected)
    assert cosine > 0.9999
