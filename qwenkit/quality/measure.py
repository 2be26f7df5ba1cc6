"""Perplexity of a text, and how far quantised models are from the one they were made of.

Windows of a text are read by all models side by side, so that only one piece of logits a model is
in memory at any time, whatever the text's length. As `llama-perplexity` does, a window is 512
tokens and its second half is scored: each scored token is predicted from at least 256 others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qwenkit.backends.base import FloatArray, IntArray
from qwenkit.backends.llamacpp.sizing import usable_cores
from qwenkit.errors import DecodeFailed, InvalidRequest, ModelUnsupported
from qwenkit.models.gguf_header import read_header, split_parts
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.quality import metrics
from qwenkit.quality.metrics import Divergence, Floats, Perplexity
from qwenkit.quality.reader import Reader
from qwenkit.quality.texts import read_builtin
from qwenkit.quality.tokens import Source, cut, encode

N_CTX = 512

# Rows whose log-probabilities are in memory at once, in float64.
_CHUNK = 16


@dataclass(frozen=True, slots=True)
class Quality:
    """What a model's numbers say of a text, compared with its reference.

    Args:
        path: The GGUF.
        size_bytes: Size of its files.
        bits_per_weight: Of all its tensors together.
        perplexity: Of the text.
        ratio: Its perplexity over the reference's; 1 for the reference.
        ratio_error: Standard error of the ratio, from the tokens' differences.
        divergence: From the reference, in nats.
        agreement: Share of positions where both find the same token likeliest, 0 to 1.
    """

    path: Path
    size_bytes: int
    bits_per_weight: float
    perplexity: Perplexity
    ratio: float
    ratio_error: float
    divergence: Divergence
    agreement: float


def perplexity(
    model: Path,
    source: Source | None = None,
    *,
    n_ctx: int = N_CTX,
    n_windows: int | None = None,
    n_threads: int = 0,
    n_gpu_layers: int = -1,
    kv_type: str = "f16",
    progress: ProgressFactory = silent,
) -> Perplexity:
    """Perplexity of a text under one model.

    Args:
        model: A GGUF; for a split model its first part.
        source: Plain text, documents or token ids; None is the built-in evaluation text.
        n_ctx: Tokens of a window; the second half of each is scored.
        n_windows: Most windows to read; None reads the whole text.
        n_threads: CPU threads; 0 is one a core.
        n_gpu_layers: Layers on the GPU; -1 is all.
        kv_type: Number format of the KV cache; `f32` also computes attention in float32.
        progress: Told the windows read.

    Raises:
        ModelError: The model can't be loaded.
        InvalidRequest: The text is shorter than a window.
        EngineError: The runtime failed, or ran out of memory.
    """
    [only] = compare(
        model,
        (),
        source,
        n_ctx=n_ctx,
        n_windows=n_windows,
        n_threads=n_threads,
        n_gpu_layers=n_gpu_layers,
        kv_type=kv_type,
        progress=progress,
    )
    return only.perplexity


def compare(
    reference: Path,
    candidates: Sequence[Path],
    source: Source | None = None,
    *,
    n_ctx: int = N_CTX,
    n_windows: int | None = None,
    n_threads: int = 0,
    n_gpu_layers: int = -1,
    kv_type: str = "f16",
    progress: ProgressFactory = silent,
) -> tuple[Quality, ...]:
    """Compare models with the one that they were made of, on one text.

    All models are loaded together. The arguments beside the models are those of `perplexity`.

    Returns:
        The reference first (with a divergence of 0), then the candidates in their order.

    Raises:
        ModelUnsupported: A candidate has another vocabulary.
        DecodeFailed: A model computes NaN or infinity.
        ModelError, InvalidRequest, EngineError: As `perplexity` does.
    """
    paths = (reference, *candidates)
    _check_vocabularies(paths)
    tokens = encode(read_builtin("evaluation") if source is None else source, reference)
    windows = cut(tokens, n_ctx=n_ctx, n_windows=n_windows)
    with ExitStack() as stack:
        readers = [
            stack.enter_context(
                Reader(
                    path,
                    n_ctx=n_ctx,
                    n_threads=n_threads or usable_cores(),
                    n_gpu_layers=n_gpu_layers,
                    kv_type=kv_type,
                )
            )
            for path in paths
        ]
        _check_tokens(windows, readers[0])
        tallies = _measure(readers, windows, progress)
    return tuple(
        _quality(path, each, tallies[0]) for path, each in zip(paths, tallies, strict=True)
    )


@dataclass(slots=True)
class _Tally:
    """What is kept of one model: three numbers a position."""

    losses: list[Floats] = field(default_factory=list)
    divergences: list[Floats] = field(default_factory=list)
    agreements: list[Floats] = field(default_factory=list)

    def add(self, reference: Floats, own: Floats, targets: IntArray) -> None:
        self.losses.append(metrics.losses(own, targets))
        self.divergences.append(metrics.divergences(reference, own))
        self.agreements.append(metrics.agreements(reference, own).astype(np.float64))


def _measure(
    readers: Sequence[Reader], windows: IntArray, progress: ProgressFactory
) -> list[_Tally]:
    tallies = [_Tally() for _ in readers]
    with progress("Measuring", total=len(windows), unit="windows") as advance:
        for window in windows:
            for logits, targets in _read_together(readers, window):
                _check_finite(logits, readers)
                _score(logits, targets, tallies)
            advance(1)
    return tallies


def _read_together(
    readers: Sequence[Reader], window: IntArray
) -> Iterator[tuple[list[FloatArray], IntArray]]:
    """Each model's logits of the same rows, and the tokens that came after them."""
    first = len(window) // 2
    for pieces in zip(*(reader.read(window, scored_from=first) for reader in readers), strict=True):
        start = pieces[0].start
        # What follows the window's last token is not known.
        targets = window[start + 1 : start + 1 + len(pieces[0].logits)]
        if len(pieces[0].logits):
            yield [piece.logits[: len(targets)] for piece in pieces], targets


def _check_finite(logits: Sequence[FloatArray], readers: Sequence[Reader]) -> None:
    for each, reader in zip(logits, readers, strict=True):
        if not np.isfinite(each).all():
            raise DecodeFailed(
                f"`{reader.path}` computes numbers that are not finite",
                hint="take a type for larger numbers, such as BF16",
            )


def _score(logits: Sequence[FloatArray], targets: IntArray, tallies: Sequence[_Tally]) -> None:
    for start in range(0, len(targets), _CHUNK):
        rows = slice(start, start + _CHUNK)
        reference = metrics.log_probabilities(logits[0][rows])
        tallies[0].add(reference, reference, targets[rows])
        for own, tally in zip(logits[1:], tallies[1:], strict=True):
            tally.add(reference, metrics.log_probabilities(own[rows]), targets[rows])


def _quality(path: Path, own: _Tally, reference: _Tally) -> Quality:
    size_bytes, bits = file_size(path)
    losses = np.concatenate(own.losses)
    rises = losses - np.concatenate(reference.losses)
    ratio = math.exp(rises.mean())
    return Quality(
        path=path,
        size_bytes=size_bytes,
        bits_per_weight=bits,
        perplexity=metrics.summarise_losses(losses),
        ratio=ratio,
        ratio_error=ratio * metrics.standard_error(rises),
        divergence=metrics.summarise_divergences(np.concatenate(own.divergences)),
        agreement=float(np.concatenate(own.agreements).mean()),
    )


def file_size(path: Path) -> tuple[int, float]:
    """Bytes of a GGUF model's files, and the bits that a weight takes on average in its tensors."""
    headers = [read_header(part) for part in split_parts(path)]
    tensors = [tensor for header in headers for tensor in header.tensors]
    n_weights = sum(tensor.n_elements for tensor in tensors)
    bits = 8 * sum(tensor.n_bytes for tensor in tensors)
    return sum(header.size_bytes for header in headers), bits / max(1, n_weights)


def _check_tokens(windows: IntArray, reader: Reader) -> None:
    largest = int(windows.max())
    if largest >= reader.n_vocab or windows.min() < 0:
        raise InvalidRequest(
            f"the text has the token {largest} and the vocabulary holds {reader.n_vocab}"
        )


def _check_vocabularies(paths: Sequence[Path]) -> None:
    first = read_header(paths[0]).strings("tokenizer.ggml.tokens")
    for path in paths[1:]:
        if read_header(path).strings("tokenizer.ggml.tokens") != first:
            raise ModelUnsupported(
                f"`{path}` has another vocabulary than `{paths[0]}`: "
                "their predictions can't be compared",
                hint="compare a model with the one that it was quantised from",
            )
