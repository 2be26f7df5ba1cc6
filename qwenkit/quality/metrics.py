"""How well logits predict a text, and how far apart two models' logits are. Pure numpy.

Everything is in nats, one number a position; the summaries take those numbers, so that no logits
need to be kept. Perplexity and its standard error are as llama.cpp's `llama-perplexity` has them
(tools/perplexity/perplexity.cpp).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Logits: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Perplexity:
    """How surprised a model is by a text: e to the mean negative log-likelihood of its tokens.

    Args:
        value: At least 1; the size of the vocabulary for a model that knows nothing.
        standard_error: Of the value, from the spread over tokens.
        n_tokens: Tokens that were predicted.
    """

    value: float
    standard_error: float
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """Kullback-Leibler divergence of a model from its reference over positions, in nats.

    Args:
        mean: Over all positions; 0 for equal models.
        standard_error: Of the mean.
        median: Half of the positions have less.
        p99: 99 % of the positions have less.
        maximum: The worst position.
    """

    mean: float
    standard_error: float
    median: float
    p99: float
    maximum: float


def log_probabilities(logits: Logits) -> Floats:
    """The logarithm of the softmax over the last axis, in float64."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return exact


def losses(log_probs: Floats, targets: NDArray[Any]) -> Floats:
    """Negative log-likelihood `[n]` of the tokens `targets` under `log_probs` `[n, vocab]`."""
    found: Floats = -log_probs[np.arange(len(targets)), targets]
    return found


def divergences(reference: Floats, candidate: Floats) -> Floats:
    """KL(reference ‖ candidate) `[n]` of two distributions given as log-probabilities `[n, vocab]`.

    Zero exactly where both are equal; rounding never makes it negative.
    """
    sums: Floats = np.einsum("ij,ij->i", np.exp(reference), reference - candidate)
    return sums.clip(min=0.0)


def agreements(reference: Floats, candidate: Floats) -> NDArray[np.bool_]:
    """Whether both find the same token likeliest, `[n]`; of equal ones the first counts."""
    same: NDArray[np.bool_] = reference.argmax(axis=-1) == candidate.argmax(axis=-1)
    return same


def summarise_losses(losses: Floats) -> Perplexity:
    """Perplexity of the tokens with these negative log-likelihoods.

    Raises:
        ValueError: There are none.
    """
    if not len(losses):
        raise ValueError("a perplexity of no tokens")
    value = math.exp(losses.mean())
    return Perplexity(value, value * standard_error(losses), len(losses))


def summarise_divergences(divergences: Floats) -> Divergence:
    """The divergence of a whole text.

    Raises:
        ValueError: There are none.
    """
    if not len(divergences):
        raise ValueError("a divergence over no positions")
    return Divergence(
        mean=float(divergences.mean()),
        standard_error=standard_error(divergences),
        median=float(np.median(divergences)),
        p99=float(np.quantile(divergences, 0.99)),
        maximum=float(divergences.max()),
    )


def standard_error(values: Floats) -> float:
    """Of the mean of independent values; 0 for a single one."""
    if len(values) < 2:
        return 0.0
    return float(values.std() / math.sqrt(len(values) - 1))
