"""Every row that the guide shows is read by the methods that it names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from qwenkit.feedback.datasets.columns import Variables, columns
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.training.data.rows import parse_row

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "feedback-datasets.md"
BLOCK = re.compile(r'```json title="([a-z ]+)"\n(.+?)\n```', re.DOTALL)
EXAMPLES = [
    (methods.split(), json.loads(row))
    for methods, row in BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("methods", "row"), EXAMPLES)
def test_a_row_of_the_guide_has_the_columns_of_its_format(methods: Any, row: Any) -> None:
    options = ExportOptions(format=methods[0])
    assert list(row) == list(columns(options, Variables()))


@pytest.mark.parametrize(("methods", "row"), EXAMPLES)
def test_a_row_of_the_guide_is_read_by_its_methods(methods: Any, row: Any) -> None:
    for method in methods:
        assert parse_row(row, method=method)
