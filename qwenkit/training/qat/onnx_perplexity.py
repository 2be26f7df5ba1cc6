"""Perplexity of a text under an exported model, as `quality` has it under llama.cpp.

The same windows, of which the second half is scored. Knows the graph's run; nothing of training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qwenkit.backends.base import FloatArray, IntArray
from qwenkit.export.check import Graph
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.quality import metrics
from qwenkit.quality.measure import N_CTX
from qwenkit.quality.metrics import Perplexity
from qwenkit.quality.tokens import cut

# Rows of one run: a row of logits is as wide as the vocabulary.
_N_ROWS = 128


def perplexity(
    model: Path,
    tokens: IntArray,
    *,
    n_ctx: int = N_CTX,
    n_windows: int | None = None,
    n_threads: int = 0,
    progress: ProgressFactory = silent,
) -> Perplexity:
    """Perplexity of tokens under an exported folder.

    Args:
        model: Holds `model.onnx` and `config.json`.
        tokens: The text.
        n_ctx: Tokens of a window; the second half of each is scored.
        n_windows: Most windows to read; None reads the whole text.
        n_threads: Threads; 0 leaves it to onnxruntime.
        progress: Told the windows read.

    Raises:
        ModelError: The folder holds no exported Qwen3.
        InvalidRequest: The text is shorter than a window.
        MissingExtra: onnxruntime is not installed.
    """
    windows = cut(tokens, n_ctx=n_ctx, n_windows=n_windows)
    config = qwen3.parse_config(read_json(model / "config.json"))
    graph = Graph(model, config, n_threads=n_threads)
    losses = []
    with progress("Measuring", total=len(windows), unit="windows") as advance:
        for window in windows:
            for logits, targets in _scored(graph, window):
                losses.append(metrics.losses(metrics.log_probabilities(logits), targets))
            advance(1)
    return metrics.summarise_losses(np.concatenate(losses))


def _scored(graph: Graph, window: IntArray) -> Iterator[tuple[FloatArray, IntArray]]:
    """Logits of the scored rows, and the tokens that came after them."""
    half, caches = len(window) // 2, graph.empty(1)
    for first in range(0, len(window) - 1, _N_ROWS):
        piece = window[first : first + _N_ROWS]
        last = first + len(piece)
        mask = np.ones((1, last), np.int64)
        logits, caches = graph.run(piece[None].astype(np.int64), mask, caches)
        targets = window[first + 1 : last + 1]
        skipped = max(0, half - first)
        if skipped < len(targets):
            yield logits[0, skipped : len(targets)], targets[skipped:]
