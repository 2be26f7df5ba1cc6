"""The best matrix of low rank for a change of a matrix, and how much of the change it keeps.

Training by steps of an optimizer with a projection onto matrices of rank r in between is projected
gradient descent over a set that isn't convex, known as singular value projection or iterative hard
thresholding. Source: Jain, Meka, Dhillon, "Guaranteed Rank Minimization via Singular Value
Projection", NeurIPS 2010, arXiv:0909.5457. The projection itself is a truncated singular value
decomposition (Eckart and Young, 1936); that of a large matrix is found by subspace iteration
(Halko, Martinsson, Tropp, "Finding structure with randomness", 2011, algorithm 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qwenkit.adapters.lora import Float32, Float64

# Up to this many rows or columns the exact decomposition is quick enough.
_MAX_EXACT = 512
_N_EXTRA = 10
_N_ITERATIONS = 4
# Singular values below this part of the first are rounding.
_ROUNDING = 1e-7


@dataclass(frozen=True, slots=True)
class LowRank:
    """A matrix of low rank, as two factors.

    Args:
        a: Float32 `[rank, in]`.
        b: Float32 `[out, rank]`.
        kept: Squared Frobenius norm of `b @ a`.
        total: Squared Frobenius norm of what it stands for.
    """

    a: Float32 = field(repr=False)
    b: Float32 = field(repr=False)
    kept: float
    total: float

    @property
    def share(self) -> float:
        """How much of the change is kept, from 0 to 1; a change of nothing is kept whole."""
        return self.kept / self.total if self.total else 1.0


def truncate(change: Float32, rank: int) -> LowRank:
    """The nearest matrix of at most `rank`, its weight shared evenly by both factors.

    Args:
        change: Float32 `[out, in]`.
        rank: At least 1; a matrix of fewer rows or columns keeps everything.
    """
    rank = min(rank, *change.shape)
    total = float(np.square(change, dtype=np.float64).sum())
    u, s, v = _decompose(change.astype(np.float64), rank)
    root = np.sqrt(s)
    kept = min(float(np.square(s).sum()), total)
    b, a = (u * root).astype(np.float32), (root[:, None] * v).astype(np.float32)
    return LowRank(np.ascontiguousarray(a), np.ascontiguousarray(b), kept, total)


def _decompose(change: Float64, rank: int) -> tuple[Float64, Float64, Float64]:
    """The first `rank` left vectors, singular values and right vectors."""
    if min(change.shape) <= max(_MAX_EXACT, rank + _N_EXTRA):
        return _leading(change, rank)
    # The same change always meets the same probes.
    probes = np.random.default_rng(0).standard_normal((change.shape[1], rank + _N_EXTRA))
    basis = np.linalg.qr(change @ probes)[0]
    for _ in range(_N_ITERATIONS):
        basis = np.linalg.qr(change @ np.linalg.qr(change.T @ basis)[0])[0]
    u, s, v = _leading(basis.T @ change, rank)
    return basis @ u, s, v


def _leading(matrix: Float64, rank: int) -> tuple[Float64, Float64, Float64]:
    """By the eigenvectors of its smaller Gram matrix, far quicker than a whole decomposition."""
    if matrix.shape[0] > matrix.shape[1]:
        v, s, u = _leading(matrix.T, rank)
        return u.T, s, v.T
    squares, vectors = np.linalg.eigh(matrix @ matrix.T)
    u = vectors[:, ::-1][:, :rank]
    s = np.sqrt(np.maximum(squares[::-1][:rank], 0))
    inverse = np.divide(1, s, out=np.zeros_like(s), where=s > _ROUNDING * s[0])
    return u, s, inverse[:, None] * (u.T @ matrix)
