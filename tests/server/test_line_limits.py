from __future__ import annotations

import pytest

from qwenkit.server.line_limits import LineLimits

BLOCK = "return a\n    b = 1\n\n    c = 2\nd = 3\n"


def through(limits: LineLimits, text: str, size: int) -> str:
    parts = [limits.feed(text[i : i + size]) for i in range(0, len(text), size)]
    return "".join(parts) + limits.rest()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_without_limits_everything_counts(size: int) -> None:
    assert through(LineLimits(), BLOCK, size) == BLOCK


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_the_text_ends_where_the_block_is_left(size: int) -> None:
    limits = LineLimits(n_indent=4)
    assert through(limits, BLOCK, size) == "return a\n    b = 1\n\n    c = 2"
    assert limits.done


def test_blank_lines_and_the_first_line_may_have_any_indentation() -> None:
    limits = LineLimits(n_indent=4)
    assert through(limits, "x\n\n  \n\ty\n", 1) == "x"
    assert through(LineLimits(n_indent=4), "x\n\n  \n    y\n", 1) == "x\n\n  \n    y\n"


def test_a_late_text_ends_at_its_next_line_end() -> None:
    now = [0.0]
    limits = LineLimits(max_s=1.0, clock=lambda: now[0])
    assert limits.feed("one\ntwo") == "one\ntwo"
    now[0] = 2.0
    assert limits.feed(" more\nthree") == " more"
    assert limits.done
    assert limits.feed("four") == ""


def test_the_clock_starts_with_the_first_text() -> None:
    now = [100.0]
    limits = LineLimits(max_s=1.0, clock=lambda: now[0])
    limits.feed("")
    now[0] = 200.0
    assert limits.feed("one\ntwo\n") == "one\ntwo"
    assert not limits.done
