"""The guide on rounds shows what is true: its choices, its defaults and its exit codes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from qwenkit.cli.improve import EXIT_NOT_BETTER, EXIT_NOT_ENOUGH
from qwenkit.improve.options import ImproveOptions
from qwenkit.improve.train import DEFAULTS, ENOUGH_STEPS, MAX_EPOCHS, n_epochs

TEXT = (Path(__file__).parents[2] / "docs" / "guides" / "improve.md").read_text(encoding="utf-8")


def test_every_choice_is_listed_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `(--[\w-]+)` \| `([^`]+)` \|", TEXT, re.MULTILINE))
    expected = {
        f"--{field.name.replace('_', '-')}": str(field.default) for field in fields(ImproveOptions)
    }
    assert listed == expected


def test_the_exit_codes_are_those_of_the_command() -> None:
    codes = re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)
    assert codes == ["0", str(EXIT_NOT_BETTER), str(EXIT_NOT_ENOUGH), "130"]


def test_the_trainings_defaults_are_as_the_guide_says() -> None:
    assert DEFAULTS["dpo"] == {"sft_weight": 1.0}
    assert (ENOUGH_STEPS, MAX_EPOCHS) == (20, 20)
    assert n_epochs(10_000) == 3
    assert n_epochs(1) == 20
    assert n_epochs(16) == 10
