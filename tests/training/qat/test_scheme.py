"""The names of schemes, and which matrices each puts on which grid. No torch here."""

from __future__ import annotations

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.training.qat.scheme import NAMES, SCHEMES, find_scheme


def test_each_name_finds_its_scheme() -> None:
    assert [find_scheme(name).name for name in NAMES] == list(NAMES)
    assert set(NAMES) == SCHEMES.keys()


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidSettings) as caught:
        find_scheme("q4_k_m")
    assert "q4_0" in caught.value.hint


def test_a_tied_embedding_lies_on_the_grid_of_the_head() -> None:
    for scheme in SCHEMES.values():
        assert scheme.grid("embedding", tied=True) == scheme.grid("head", tied=True)
    assert SCHEMES["onnx-int4"].grid("embedding", tied=False) is None
