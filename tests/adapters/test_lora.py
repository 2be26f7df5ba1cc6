"""What holds for an adapter of any format, once its matrices are in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwenkit.adapters.lora import LoraPair, make_lora
from qwenkit.errors import AdapterUnsupported, ModelCorrupt, ModelError

MODULE = "model.layers.0.self_attn.q_proj"


def pair(
    a: tuple[int, ...], b: tuple[int, ...], magnitude: tuple[int, ...] | None = None
) -> LoraPair:
    lengths = None if magnitude is None else np.ones(magnitude, np.float32)
    return LoraPair(
        MODULE, np.ones(a, np.float32), np.ones(b, np.float32), 1.0, "F32", magnitude=lengths
    )


@pytest.mark.parametrize(
    ("found", "error", "named"),
    [
        (pair((0, 8), (4, 0)), AdapterUnsupported, "rank 0"),
        (pair((2, 8), (4, 0)), AdapterUnsupported, "rank 0"),
        (pair((2, 8), (4, 3)), ModelCorrupt, r"rank 2 .* rank 3"),
        (pair((8,), (4, 2)), ModelCorrupt, "should be a matrix"),
        (pair((2, 8), (4, 2), (5,)), ModelCorrupt, r"magnitudes .*\[5\], \[4\]"),
        (pair((2, 8), (4, 2), (4, 1)), ModelCorrupt, "magnitudes"),
    ],
)
def test_a_pair_that_does_not_fit_together_is_refused(
    found: LoraPair, error: type[ModelError], named: str
) -> None:
    with pytest.raises(error, match=named):
        make_lora(Path("a"), [found], 1.0)


def test_pairs_stand_in_the_order_of_their_modules() -> None:
    pairs = [
        LoraPair(
            f"model.layers.{i}.x", np.ones((1, 2), np.float32), np.ones((3, 1), np.float32), 1, ""
        )
        for i in (2, 0, 1)
    ]
    one, other = make_lora(Path("a"), pairs, 1.0), make_lora(Path("b"), pairs[::-1], 1.0)
    assert one.version() == other.version()
    assert [p.module for p in one.pairs] == [f"model.layers.{i}.x" for i in range(3)]
