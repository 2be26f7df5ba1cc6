"""When an export is refused for what it computes."""

from __future__ import annotations

import math

import pytest

from qwenkit.errors import ModelCorrupt
from qwenkit.export.check import ExportCheck, PromptCheck, require_close


def found(*errors: float) -> ExportCheck:
    return ExportCheck(tuple(PromptCheck(n + 1, e, 0.0, 1.0) for n, e in enumerate(errors)))


def test_fp32_may_differ_by_rounding_and_no_more() -> None:
    require_close(found(1e-5, 9e-4), is_fp32=True)
    with pytest.raises(ModelCorrupt) as caught:
        require_close(found(1e-5, 2e-3), is_fp32=True)
    assert caught.value.exit_code == 4
    require_close(found(2.0), is_fp32=False)


@pytest.mark.parametrize("is_fp32", [True, False])
def test_logits_that_are_no_numbers_are_refused_in_every_precision(is_fp32: bool) -> None:
    with pytest.raises(ModelCorrupt):
        require_close(found(1e-5, math.nan), is_fp32=is_fp32)


def test_the_whole_weighs_every_token_the_same() -> None:
    check = ExportCheck((PromptCheck(1, 0.1, 0.4, 0.0), PromptCheck(3, 0.2, 0.0, 1.0)))
    assert (check.n_tokens, check.max_error) == (4, 0.2)
    assert check.divergence == pytest.approx(0.1)
    assert check.agreement == 0.75
