"""Reading llama.cpp's dry run: what it says of each tensor, and what it would end on."""

from __future__ import annotations

import pytest
from gguf.constants import GGMLQuantizationType as Type

from qwenkit.errors import EngineError, InvalidRequest
from qwenkit.models.gguf_header import GgufTensor
from qwenkit.quantize.plan import check_plan, read_plan
from qwenkit.quantize.types import file_type

WIDE = GgufTensor("token_embd.weight", (1024, 200), Type.F16, 0, 409_600)
NORM = GgufTensor("blk.0.attn_norm.weight", (256,), Type.F32, 409_600, 1024)
LOG = (
    "llama_model_loader: - kv   0: general.name str = [1/2] odd\n"
    "warning: token_embd.weight                    - ncols    200 not divisible by 256 "
    "(required for type    q6_K) (WARNING: must use F16 due to unusual shape) "
    "-> falling back to     f16\n"
    "[   1/   2] blk.0.attn_norm.weight               - [   256,     1,     1,     1], "
    "type =    f32, size =    0.001 MiB\n"
    "[   2/   2] token_embd.weight                    - [   200,  1024,     1,     1], "
    "type =    f16, size =     0.39 MiB ->     0.21 MiB (q8_0)\n"
)


def test_types_and_fallbacks_are_read_from_the_log() -> None:
    plan = read_plan(LOG, [WIDE, NORM])
    assert plan.types == {"blk.0.attn_norm.weight": Type.F32, "token_embd.weight": Type.Q8_0}
    [fallback] = plan.fallbacks
    assert (fallback.tensor, fallback.n_columns) == ("token_embd.weight", 200)
    assert (fallback.wanted, fallback.given) == ("Q6_K", "F16")


def test_a_tensor_that_the_log_leaves_out_is_an_error() -> None:
    other = GgufTensor("blk.1.attn_norm.weight", (256,), Type.F32, 0, 1024)
    with pytest.raises(EngineError, match=r"blk\.1"):
        read_plan(LOG, [WIDE, NORM, other])


def test_a_type_named_for_rows_that_its_blocks_dont_fit_is_refused() -> None:
    plan = read_plan(LOG, [WIDE, NORM])
    with pytest.raises(InvalidRequest, match="multiples of 32"):
        check_plan(plan, file_type("Q8_0"), None)


def test_the_bytes_are_those_of_the_new_types() -> None:
    fitting = GgufTensor("token_embd.weight", (1024, 256), Type.F16, 0, 524_288)
    plan = read_plan(LOG, [fitting, NORM])
    assert plan.n_bytes == 1024 * 256 // 32 * 34 + 1024
