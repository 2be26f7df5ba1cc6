"""The nearest matrix of low rank, and how much it keeps."""

from __future__ import annotations

import numpy as np
import pytest

from qwenkit.training.native.low_rank import truncate


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (64, 64)])
@pytest.mark.parametrize("rank", [1, 7, 40])
def test_it_is_the_best_there_is(shape: tuple[int, int], rank: int) -> None:
    change = noise(*shape)
    low = truncate(change, rank)
    u, s, v = np.linalg.svd(change.astype(np.float64), full_matrices=False)
    best = u[:, :rank] * s[:rank] @ v[:rank]
    assert (low.a.shape, low.b.shape) == ((rank, shape[1]), (shape[0], rank))
    np.testing.assert_allclose(low.b @ low.a, best, atol=1e-4)
    assert low.share == pytest.approx(np.square(s[:rank]).sum() / np.square(s).sum(), rel=1e-5)


def test_the_share_is_what_the_difference_leaves() -> None:
    change = noise(50, 80)
    low = truncate(change, 9)
    lost = np.square(change - low.b @ low.a).sum() / np.square(change).sum()
    assert 1 - low.share == pytest.approx(lost, rel=1e-4)


def test_a_large_matrix_keeps_nearly_as_much_as_the_best_would() -> None:
    change = noise(600, 8) @ noise(8, 700, seed=1) + 0.5 * noise(600, 700, seed=2)
    s = np.linalg.svd(change, compute_uv=False)
    low = truncate(change, 8)
    best = float(np.square(s[:8]).sum() / np.square(s).sum())
    assert 0.999 * best < low.share <= best * (1 + 1e-6)
    np.testing.assert_array_equal(truncate(change, 8).a, low.a)


@pytest.mark.parametrize("n", [60, 600])
def test_what_is_of_that_rank_already_is_kept_whole(n: int) -> None:
    change = noise(n, 4) @ noise(4, n, seed=1)
    low = truncate(change, 6)
    assert low.share == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(low.b @ low.a, change, atol=1e-4)


def test_no_change_is_kept_whole_and_stays_none() -> None:
    low = truncate(np.zeros((30, 20), np.float32), 4)
    assert low.share == 1
    assert not (low.b @ low.a).any()
