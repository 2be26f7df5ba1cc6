"""What goes together in an export, and what doesn't."""

from __future__ import annotations

from typing import Any

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.export.options import BLOCK_SIZES, ExportOptions, check_options


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp16", "provider": "cpu"},
        {"precision": "fp32", "provider": "cuda"},
        {"precision": "int4", "provider": "cuda", "exporter": "optimum"},
        {"precision": "int2"},
        {"provider": "tpu"},
        {"exporter": "torch"},
        {"block_size": 0},
        {"block_size": 48},
        {"accuracy_level": -1},
        {"accuracy_level": 5},
        {"n_ctx": 0},
    ],
    ids=str,
)
def test_options_that_cant_be_are_refused_with_a_hint_or_a_number(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        check_options(ExportOptions(**options))
    assert caught.value.hint or "0" in caught.value.message


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_every_block_size_goes_with_every_quantised_precision(block_size: int) -> None:
    for precision in ("int8", "int4"):
        check_options(ExportOptions(precision=precision, block_size=block_size))


def test_products_are_computed_in_int8_on_the_cpu_unless_another_level_is_named() -> None:
    assert ExportOptions().level == 4
    assert ExportOptions(provider="cuda").level == 0
    assert ExportOptions(accuracy_level=1).level == 1


def test_a_graph_for_cuda_takes_halves_and_one_for_the_cpu_whole_floats() -> None:
    assert ExportOptions(provider="cuda").io_dtype == "float16"
    assert ExportOptions(precision="int8").io_dtype == "float32"
