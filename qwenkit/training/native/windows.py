"""What one pass of training sees: a window of exactly so many tokens, with samples side by side.

llama.cpp takes windows of one length and knows neither of samples nor of masks; what is learned and
who sees whom is told beside the ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qwenkit.errors import InvalidSettings
from qwenkit.training.data.packing import PackedRow, pack
from qwenkit.training.data.samples import Sample


@dataclass(frozen=True, slots=True)
class Window:
    """Samples in one row, each of which sees only itself; the rest of the row is padding.

    Args:
        ids: Tokens, int32 `[n_ctx]`.
        labels: The token after each, int32 `[n_ctx]`; anything where nothing is learned.
        learned: Whether the token after each is a target, `[n_ctx]`.
        blocks: Which sample each token is of, int32 `[n_ctx]`; padding is one more.
        n_tokens: Tokens that are no padding.
    """

    ids: NDArray[np.int32] = field(repr=False)
    labels: NDArray[np.int32] = field(repr=False)
    learned: NDArray[np.bool_] = field(repr=False)
    blocks: NDArray[np.int32] = field(repr=False)
    n_tokens: int

    @property
    def n_learned(self) -> int:
        """Tokens that are targets."""
        return int(self.learned.sum())


def make_windows(samples: Sequence[Sample], *, n_ctx: int, n_vocab: int) -> list[Window]:
    """Pack samples that have something to learn into windows.

    Raises:
        InvalidSettings: A sample is longer than a window or has a token the model lacks, or there
            is nothing to learn.
    """
    for sample in samples:
        _check(sample, n_ctx, n_vocab)
    rows = pack([sample for sample in samples if any(sample.learned[1:])], length=n_ctx)
    if not rows:
        raise InvalidSettings("the data has no token to learn")
    return [_window(row, n_ctx) for row in rows]


def _window(row: PackedRow, n_ctx: int) -> Window:
    ids, labels = np.zeros(n_ctx, np.int32), np.zeros(n_ctx, np.int32)
    learned = np.zeros(n_ctx, np.bool_)
    blocks = np.full(n_ctx, len(row.lengths), np.int32)
    n = row.n_tokens
    ids[:n] = row.ids
    labels[: n - 1] = row.ids[1:]
    # A sample's first token is no target, so that no token learns what another sample begins with.
    learned[: n - 1] = row.learned[1:]
    blocks[:n] = np.repeat(np.arange(len(row.lengths)), row.lengths)
    return Window(ids, labels, learned, blocks, n)


def _check(sample: Sample, n_ctx: int, n_vocab: int) -> None:
    if sample.n_tokens > n_ctx:
        raise InvalidSettings(
            f"{sample.place} has {sample.n_tokens} tokens and a window holds {n_ctx}",
            hint="train with a longer context, or drop or truncate long rows",
        )
    if not all(0 <= token < n_vocab for token in sample.ids):
        raise InvalidSettings(
            f"{sample.place} has a token outside of the model's vocabulary of {n_vocab}",
            hint="prepare the data with the tokenizer of the model that is trained",
        )
