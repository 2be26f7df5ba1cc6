"""Grids against those who write such files: ggml in C, onnxruntime's kernel, torchao."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qwenkit.training.qat import grids
from qwenkit.training.qat.blocks import pack_nbits, pack_q4_0, pack_q8_0
from qwenkit.training.qat.scheme import GridName

pytestmark = pytest.mark.parity

GGML = {
    "q4_0": (GGMLQuantizationType.Q4_0, 18, pack_q4_0),
    "q8_0": (GGMLQuantizationType.Q8_0, 34, pack_q8_0),
}
ALL: tuple[GridName, ...] = ("int4", "int8", "q4_0", "q8_0", "nbits4")
# Of a block's largest weight, half a step: how far rounding takes the others.
HALF_STEP = {"int4": 0.5 / 7.5, "int8": 0.5 / 127.5, "q4_0": 0.5 / 8, "q8_0": 0.5 / 127}
HALF_STEP["nbits4"] = 0.5 / 8

# Weights of any magnitude whose scales 16 bits hold, in blocks that differ by far.
MAGNITUDES = st.floats(2.0**-10, 2.0**12, width=32)
UNITS = st.floats(-1, 1, width=32)


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    n_rows, n_blocks = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    weights = draw(arrays(np.float32, (n_rows, n_blocks, 32), elements=UNITS))
    weights *= draw(arrays(np.float32, (n_rows, n_blocks, 1), elements=MAGNITUDES))
    # Where 1 / scale is no number C leaves the levels undefined; all of them read as 0.
    weights[np.abs(weights) < 1e-30] = 0
    return weights.reshape(n_rows, -1)


def quantise(weights: np.ndarray, grid: GridName) -> grids.Blocks:
    import torch

    return grids.quantise(torch.from_numpy(weights.copy()), grid)


def rounded(weights: np.ndarray, grid: GridName) -> np.ndarray:
    return np.asarray(quantise(weights, grid).weights())


def parts(blocks: grids.Blocks) -> tuple[np.ndarray, np.ndarray]:
    return blocks.levels.numpy().astype(np.int8), blocks.scales.numpy()


def in_c(weights: np.ndarray, grid: str) -> np.ndarray:
    """The rows as ggml's own quantiser packs them."""
    from llama_cpp._ggml import libggml

    kind, size, _ = GGML[grid]
    write: Any = libggml.ggml_quantize_chunk
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    write.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    write.restype = ctypes.c_size_t
    rows, columns = weights.shape
    source = np.ascontiguousarray(weights)
    packed = np.zeros((rows, columns // 32 * size), np.uint8)
    assert write(int(kind), source.ctypes.data, packed.ctypes.data, 0, rows, columns, None) > 0
    return packed


def in_onnxruntime(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from qwenkit.export.nbits import Blocks
    from qwenkit.export.nbits import quantise as quantise_nbits

    packed, scales, _ = quantise_nbits(np.ascontiguousarray(weights.T), Blocks(4, 32, True, 4))
    return packed, scales


@pytest.mark.parametrize("grid", GGML)
@settings(deadline=None, max_examples=150)
@given(weights=matrices())
def test_ggml_writes_the_same_bytes(grid: str, weights: np.ndarray) -> None:
    levels, scales = parts(quantise(weights, grid))
    np.testing.assert_array_equal(GGML[grid][2](levels, scales), in_c(weights, grid))


@settings(deadline=None, max_examples=150)
@given(weights=matrices())
def test_onnxruntime_writes_the_same_blocks(weights: np.ndarray) -> None:
    levels, scales = parts(quantise(weights, "nbits4"))
    packed, wanted = in_onnxruntime(weights)
    np.testing.assert_array_equal(pack_nbits(levels), packed)
    np.testing.assert_array_equal(scales[..., 0], wanted)


@pytest.mark.parametrize("grid", ALL)
def test_many_ordinary_weights_are_rounded_as_elsewhere(grid: GridName) -> None:
    weights = np.random.default_rng(1).standard_normal((512, 1024)).astype(np.float32)
    levels, scales = parts(quantise(weights, grid))
    if grid in GGML:
        np.testing.assert_array_equal(GGML[grid][2](levels, scales), in_c(weights, grid))
    elif grid == "nbits4":
        np.testing.assert_array_equal(pack_nbits(levels), in_onnxruntime(weights)[0])
    else:
        np.testing.assert_array_equal(rounded(weights, grid), in_torchao(weights, grid, scales))


def in_torchao(weights: np.ndarray, grid: str, scales: np.ndarray | None = None) -> np.ndarray:
    """torchao's own fake quantiser, with these scales or with those that it chooses."""
    import torch
    from torchao.quantization.qat.fake_quantize_config import IntxFakeQuantizeConfig
    from torchao.quantization.qat.fake_quantizer import IntxFakeQuantizer

    kind = torch.int4 if grid == "int4" else torch.int8
    theirs = IntxFakeQuantizer(
        IntxFakeQuantizeConfig(kind, group_size=32, is_dynamic=scales is None)
    )
    if scales is not None:
        theirs.scale = torch.from_numpy(scales[..., 0])
        theirs.zero_point = torch.zeros_like(theirs.scale, dtype=torch.int32)
    return theirs(torch.from_numpy(weights)).numpy()


@pytest.mark.parametrize("grid", ["int4", "int8"])
@settings(deadline=None, max_examples=50)
@given(weights=matrices())
def test_torchao_rounds_the_same_with_scales_of_16_bits(grid: GridName, weights) -> None:
    blocks = quantise(weights, grid)
    theirs = in_torchao(weights, grid, parts(blocks)[1])
    np.testing.assert_array_equal(blocks.weights().numpy(), theirs)


@pytest.mark.parametrize("grid", ["int4", "int8"])
def test_scales_are_torchaos_rounded_to_16_bits(grid: GridName) -> None:
    import torch
    from torchao.quantization.utils import get_group_qparams_symmetric

    weights = torch.randn(64, 256, generator=torch.Generator().manual_seed(2))
    theirs, _ = get_group_qparams_symmetric(weights, 4 if grid == "int4" else 8, 32)
    ours = grids.quantise(weights, grid).scales[..., 0]
    assert torch.equal(ours, theirs.half().float())


@pytest.mark.parametrize("grid", ALL)
@settings(deadline=None, max_examples=60)
@given(weights=matrices())
def test_rounding_moves_a_weight_by_half_a_step_or_the_clipped_one_by_a_whole(
    grid: GridName, weights: np.ndarray
) -> None:
    blocks = weights.reshape(-1, 32)
    error = np.abs(rounded(weights, grid).reshape(-1, 32) - blocks)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    steps = 2.01 if grid in ("q4_0", "nbits4") else 1.01
    # A scale of 16 bits is off by 2⁻¹¹ of itself, or near the least one by half of that, times 128.
    assert (error <= (steps * HALF_STEP[grid] + 2.0**-10.9) * largest + 128 * 2.0**-25).all()


@pytest.mark.parametrize("grid", ["q4_0", "q8_0", "nbits4"])
@settings(deadline=None, max_examples=60)
@given(weights=matrices())
def test_what_lies_on_a_grid_stays_there(grid: GridName, weights: np.ndarray) -> None:
    once = rounded(weights, grid)
    np.testing.assert_array_equal(rounded(once, grid), once)


@pytest.mark.parametrize(("grid", "top"), [("int4", 7), ("int8", 127)])
def test_torchaos_grids_shrink_when_they_are_made_again(grid: GridName, top: int) -> None:
    # Half a step of the largest weight is cut off, and what is left is then taken for all of it.
    weights = np.linspace(-1, 1, 32, dtype=np.float32)[None]
    weights[0, 0] = 0.0
    once, twice = quantise(weights, grid), quantise(rounded(weights, grid), grid)
    assert once.levels.max() == top
    assert twice.scales.item() < once.scales.item()


@pytest.mark.parametrize("grid", ALL)
def test_zeros_stay_zeros(grid: GridName) -> None:
    blocks = quantise(np.zeros((2, 64), np.float32), grid)
    assert not blocks.weights().any()
    assert grids.fits(blocks)


@pytest.mark.parametrize("grid", ALL)
@pytest.mark.parametrize("size", [1e-9, 1e-30, 1e-38, 1e-44])
def test_weights_below_any_scale_become_numbers_near_zero(grid: GridName, size: float) -> None:
    weights = (np.random.default_rng(3).standard_normal((4, 64)) * size).astype(np.float32)
    weights[:, ::3] = 0
    found = rounded(weights, grid)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 20 * size
    if grid in GGML:
        np.testing.assert_array_equal(found, dequantize(in_c(weights, grid), GGML[grid][0]))


@pytest.mark.parametrize("grid", ["q4_0", "nbits4"])
def test_of_equal_magnitudes_each_grid_keeps_the_one_its_writer_keeps(grid: GridName) -> None:
    weights = np.zeros((2, 32), np.float32)
    weights[0, 3], weights[0, 9] = 5, -5
    weights[1, 3], weights[1, 9] = -5, 5
    kept = rounded(weights, grid) == weights
    assert kept[0, [3, 9]].tolist() == ([True, False] if grid == "q4_0" else [False, True])
    assert kept[1, [3, 9]].tolist() == [True, False]
    if grid == "q4_0":
        np.testing.assert_array_equal(
            pack_q4_0(*parts(quantise(weights, grid))), in_c(weights, grid)
        )


@pytest.mark.parametrize("grid", ALL)
def test_a_scale_too_large_for_16_bits_is_noticed(grid: GridName) -> None:
    weights = np.zeros((1, 32), np.float32)
    weights[0, 0] = 1e8
    assert grids.fits(quantise(weights, grid)) == (grid == "nbits4")


def test_halves_are_rounded_away_from_zero() -> None:
    # The least float32 below a half is not a half: adding 0.5 to it gives 1.
    below = np.nextafter(np.float32(0.5), np.float32(0))
    weights = np.zeros((1, 32), np.float32)
    weights[0, :7] = 127, 0.5, -0.5, 2.5, -2.5, below, -below
    levels = quantise(weights, "q8_0").levels[0, 0, :7].tolist()
    assert levels == [127, 1, -1, 3, -3, 0, 0]
    np.testing.assert_array_equal(
        pack_q8_0(*parts(quantise(weights, "q8_0"))), in_c(weights, "q8_0")
    )
