from __future__ import annotations

import json

import pytest

from qwenkit.cli import console


def test_control_characters_are_taken_out_of_what_is_shown() -> None:
    assert console.printable("a\x1b[31mb\x07\tc\n\x9bd\r") == "a[31mb\tc\nd"


def test_json_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"é": "\x1b"})
    assert json.loads(capsys.readouterr().out) == {"é": "\x1b"}


def test_a_table_in_a_pipe_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("Title", ["name", "value"], [["x" * 300, 1.5], ["[red]", None]])
    shown = capsys.readouterr().out
    assert "x" * 300 in shown
    assert "[red]" in shown
    assert "\x1b" not in shown


def test_progress_is_one_line_on_stderr_where_that_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.progress("Loading", total=10) as advance:
        advance(5)
        advance(5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Loading …\n"


def test_notes_are_not_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("by the way")
    console.line("result")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("result\n", "by the way\n")
