"""Every row that the guide shows can be learned from, by the methods that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "training-data.md"
BLOCK = re.compile(r'```json title="([a-z ]+)"\n(.+?)\n```', re.DOTALL)
EXAMPLES = [
    (method, row)
    for methods, row in BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    for method in methods.split()
]


def test_the_guide_shows_rows_for_every_method() -> None:
    from qwenkit.training.methods import METHODS

    assert {method for method, _ in EXAMPLES} == set(METHODS)


@pytest.mark.parametrize(("method", "row"), EXAMPLES)
def test_a_row_of_the_guide_can_be_learned_from(prepare, method: str, row: str) -> None:
    assert prepare(row, method=method).samples
