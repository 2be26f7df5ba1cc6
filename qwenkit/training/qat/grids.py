"""Rounds matrices to the grids of quantised files, bit for bit as those who write such files do.

All works on torch tensors, so that training on a GPU and writing a file share one computation. A
row is cut into blocks of 32; a block has a scale, and each weight is a whole number of scales.
GGUF stores scales in 16 bits, but ggml divides by the unrounded ones: so do we. torchao knows no
16-bit scale that it does not also divide by, so its two grids divide by what is stored.

Sources: quantize_row_q4_0_ref and quantize_row_q8_0_ref in ggml/src/ggml-quants.c; MLAS' 4-bit
BlockwiseQuantizer in onnxruntime/core/mlas/lib/q4_dq.cpp; torchao's get_group_qparams_symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from qwenkit.extras import import_extra
from qwenkit.training.qat.quiet import import_torchao
from qwenkit.training.qat.scheme import BLOCK, GridName

if TYPE_CHECKING:
    from torch import Tensor

# The least number above 0 in 16 bits: a scale of 0 has no reciprocal.
_LEAST_HALF: Final = 2.0**-24
# The greatest float32 below 0.5: added before truncating, it never carries a smaller part over.
_ALMOST_HALF: Final = 0.5 - 2.0**-25


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix on a grid: `levels · scales`.

    Args:
        levels: Whole numbers, float32 `[n_out, n_blocks, 32]`: -8 to 7, or -128 to 127.
        scales: What is stored, as float32 `[n_out, n_blocks, 1]`.
    """

    levels: Tensor
    scales: Tensor

    def weights(self) -> Tensor:
        """The matrix, float32 `[n_out, n_in]`: the numbers that a reader of the file computes."""
        return (self.levels * self.scales).flatten(1)


def quantise(weights: Tensor, grid: GridName) -> Blocks:
    """Round a matrix to a grid.

    A block whose scale is too large for 16 bits gets an infinite one, as ggml's does; see
    `fits`. One that is too small becomes 0.

    Args:
        weights: Float32 `[n_out, n_in]`; n_in is a multiple of 32.
        grid: Which.
    """
    n_out, n_in = weights.shape
    return _GRIDS[grid](weights.reshape(n_out, n_in // BLOCK, BLOCK))


def fits(blocks: Blocks) -> bool:
    """Whether every scale is a number that can be stored."""
    return bool(blocks.scales.isfinite().all())


def _q4_0(blocks: Tensor) -> Blocks:
    # Of several largest magnitudes the first one counts, and it becomes -8.
    place = blocks.abs().argmax(dim=-1, keepdim=True)
    exact = (blocks.gather(-1, place) + 0.0) / -8  # of -0 as of 0
    levels = (blocks * _reciprocal(exact)).add_(8.5).trunc_()
    return Blocks(_from_unsigned(levels), _half(exact))


def _q8_0(blocks: Tensor) -> Blocks:
    largest = blocks.abs().amax(dim=-1, keepdim=True)
    # By a tensor: CUDA multiplies by the reciprocal of a plain number, which is not the same.
    exact = largest / largest.new_full((), 127.0)
    # Whole numbers know no -0.
    levels = _round_away((blocks * _reciprocal(exact)).nan_to_num_(0.0)).add_(0.0)
    return Blocks(levels.clamp_(-128, 127), _half(exact))


def _nbits4(blocks: Tensor) -> Blocks:
    low, high = blocks.amin(dim=-1, keepdim=True), blocks.amax(dim=-1, keepdim=True)
    # Of equal magnitudes the negative one becomes -8.
    exact = high.where(high.abs() > low.abs(), low) / -8
    levels = _round_away((blocks * _reciprocal(exact)).add_(8.0))
    return Blocks(_from_unsigned(levels), exact)


def _torchao(n_bits: int) -> Callable[[Tensor], Blocks]:
    low, high = -(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1

    def quantise_blocks(blocks: Tensor) -> Blocks:
        torch = import_extra("torch", extra="train")
        primitives, utils = import_torchao("quant_primitives"), import_torchao("utils")
        rows, shape = blocks.flatten(1), (1, BLOCK)
        scales, zeros = utils.get_group_qparams_symmetric(
            rows, n_bits, BLOCK, torch.float32, eps=_LEAST_HALF
        )
        scales = _half(scales)
        levels = primitives.quantize_affine(rows, shape, scales, zeros, torch.int8, low, high)
        return Blocks(levels.reshape(blocks.shape).float(), scales[..., None])

    return quantise_blocks


def _from_unsigned(levels: Tensor) -> Tensor:
    """Levels 0 to 15 as -8 to 7; of 0 · ∞, where a scale has no reciprocal, C makes 0 too."""
    return levels.nan_to_num_(0.0, 15.0, 0.0).clamp_(0, 15).sub_(8)


def _half(scales: Tensor) -> Tensor:
    return scales.half().float()


def _reciprocal(scales: Tensor) -> Tensor:
    """1 over each scale; 0 for a scale of 0, which only zeros have."""
    return (1.0 / scales).where(scales != 0, 0.0)


def _round_away(values: Tensor) -> Tensor:
    """To the nearest whole number, halves away from 0: C's `roundf`; torch rounds to even ones."""
    almost = values.new_full((), _ALMOST_HALF).copysign(values)
    return almost.add_(values).trunc_()


_GRIDS: Final[dict[GridName, Callable[[Any], Blocks]]] = {
    "int4": _torchao(4),
    "int8": _torchao(8),
    "q4_0": _q4_0,
    "q8_0": _q8_0,
    "nbits4": _nbits4,
}
