"""Block layouts against the `gguf` package. No torch here."""

from __future__ import annotations

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from qwenkit.training.qat.blocks import pack_nbits, pack_q4_0, pack_q8_0

RNG = np.random.default_rng(0)
SCALES = RNG.standard_normal((5, 3, 1)).astype(np.float16).astype(np.float32)


@pytest.mark.parametrize(
    ("pack", "kind", "low", "high"),
    [
        (pack_q4_0, GGMLQuantizationType.Q4_0, -8, 7),
        (pack_q8_0, GGMLQuantizationType.Q8_0, -128, 127),
    ],
)
def test_what_is_packed_is_read_back(pack, kind, low: int, high: int) -> None:
    levels = RNG.integers(low, high + 1, (5, 3, 32)).astype(np.int8)
    levels[0, 0, :2] = low, high
    packed = pack(levels, SCALES)
    np.testing.assert_array_equal(dequantize(packed, kind), (levels * SCALES).reshape(5, 96))


def test_neighbours_share_a_byte_in_matmulnbits() -> None:
    levels = np.zeros((1, 1, 32), np.int8)
    levels[0, 0, :3] = -8, 7, -7
    assert pack_nbits(levels)[0, 0, :2].tolist() == [0xF0, 0x81]
