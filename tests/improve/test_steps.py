"""Results of steps as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenkit.errors import ModelCorrupt
from qwenkit.improve.steps import key_of, once


def test_a_step_is_done_once_for_the_same_inputs(tmp_path: Path) -> None:
    done = []

    def make() -> dict[str, int]:
        done.append(1)
        return {"n": len(done)}

    path = tmp_path / "step.json"
    first = once(path, "a", make)
    assert once(path, "a", make) == first
    assert first.result == {"n": 1}
    assert once(path, "b", make).result == {"n": 2}
    assert len(done) == 2


def test_a_step_that_fails_leaves_nothing_and_is_done_again(tmp_path: Path) -> None:
    def fail() -> dict[str, int]:
        raise RuntimeError

    path = tmp_path / "step.json"
    with pytest.raises(RuntimeError):
        once(path, "a", fail)
    assert list(tmp_path.iterdir()) == []
    assert once(path, "a", lambda: {"n": 1}).result == {"n": 1}


def test_a_file_that_is_damaged_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    path.write_text('{"key": "a", "res', encoding="utf-8")
    with pytest.raises(ModelCorrupt):
        once(path, "a", dict)


def test_a_key_depends_on_what_there_is_and_not_on_its_order() -> None:
    assert key_of({"a": 1, "b": Path("x")}) == key_of({"b": "x", "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
