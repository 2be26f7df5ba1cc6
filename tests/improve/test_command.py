"""`qwenkit improve`, as a shell sees it, where nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwenkit.cli.app import run
from qwenkit.cli.improve import EXIT_NOT_ENOUGH
from qwenkit.cli.option_flags import help_of
from qwenkit.improve.options import ImproveOptions
from qwenkit.training.run_config import names_of


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.chdir(tmp_path)


def test_every_choice_has_a_flag_and_a_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["improve", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in names_of(ImproveOptions):
        assert f"--{name.replace('_', '-')}" in shown
    assert help_of(ImproveOptions).keys() == set(names_of(ImproveOptions))


def test_too_little_to_learn_from_ends_with_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["improve", "--json"]) == EXIT_NOT_ENOUGH
    report = json.loads(capsys.readouterr().out)
    assert report["outcome"] == "not_enough"
    assert report["ratings"]["n_ratings"] == 0
    assert len(report["check"]["missing"]) == 2


def test_a_dry_run_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["improve", "--dry-run"]) == EXIT_NOT_ENOUGH
    shown = capsys.readouterr()
    assert "pairs to learn from" in shown.err
    assert "too little" in shown.out


def test_a_history_of_nothing_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["improve", "--history", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_history_lists_what_each_round_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_round(tmp_path / "home" / "adapters" / "improve" / "kind" / "rounds" / "0001")
    assert run(["improve", "--history", "--name", "kind"]) == 0
    shown = capsys.readouterr().out
    assert "5d5d5d5d" in shown
    assert "25% → 75%" in shown
    assert "not better" in shown
    assert "the base" in shown


def _write_round(folder: Path) -> None:
    entry: dict[str, Any] = {
        "round": 1,
        "finished_at": "2026-11-25T10:00:00Z",
        "outcome": "not_better",
        "adapter": {"version": "5d5d5d5d", "path": "a"},
        "parent": None,
        "ratings": {"n_ratings": 40},
        "method": "dpo",
        "evaluation": {
            "before": {"win_rate": 0.25, "accuracy": None},
            "after": {"win_rate": 0.75, "accuracy": None},
        },
    }
    folder.mkdir(parents=True)
    (folder / "lineage.json").write_text(json.dumps(entry), encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--name", "../x"], "../x"),
        (["--held-out", "1"], "held_out"),
        (["--set", "beta"], "--set NAME=VALUE"),
        (["--since", "yesterday"], "since"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_what_makes_no_sense_is_named(
    args: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["improve", *args]) == 2
    assert named in capsys.readouterr().err
