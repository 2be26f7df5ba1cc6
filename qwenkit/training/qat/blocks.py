"""Quantised blocks as they lie in files. Pure numpy: layouts only, nothing is rounded here.

Sources: block_q4_0 and block_q8_0 in ggml/src/ggml-common.h; MatMulNBits in onnxruntime's
docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Levels: TypeAlias = NDArray[np.int8]
Floats: TypeAlias = NDArray[np.float32]
Bytes: TypeAlias = NDArray[np.uint8]

_MIDDLE = np.int8(8)
_HIGH = np.uint8(16)


def pack_q4_0(levels: Levels, scales: Floats) -> Bytes:
    """Rows of Q4_0: a 16-bit scale, then the levels of both halves of the block in each byte.

    Args:
        levels: -8 to 7, `[n_rows, n_blocks, 32]`.
        scales: Numbers that 16 bits hold exactly, `[n_rows, n_blocks, 1]`.

    Returns:
        `[n_rows, n_blocks · 18]`.
    """
    unsigned, half = _unsigned(levels), levels.shape[-1] // 2
    return _with_scales(unsigned[..., :half] | unsigned[..., half:] * _HIGH, scales)


def pack_q8_0(levels: Levels, scales: Floats) -> Bytes:
    """Rows of Q8_0: a 16-bit scale, then the levels; arguments as `pack_q4_0`, -128 to 127."""
    return _with_scales(levels.view(np.uint8), scales)


def pack_nbits(levels: Levels) -> Bytes:
    """Levels -8 to 7 as MatMulNBits has them, `[n_rows, n_blocks, 16]`: neighbours share a byte."""
    unsigned = _unsigned(levels)
    return unsigned[..., ::2] | unsigned[..., 1::2] * _HIGH


def _unsigned(levels: Levels) -> Bytes:
    return (levels + _MIDDLE).view(np.uint8)


def _with_scales(levels: Bytes, scales: Floats) -> Bytes:
    stored: NDArray[Any] = scales.astype("<f2").view(np.uint8)
    return np.concatenate([stored, levels], axis=-1).reshape(len(levels), -1)
