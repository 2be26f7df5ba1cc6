from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from qwenkit.cli.chat.input import MORE, PROMPT, message_from, read_message
from qwenkit.errors import UsageError


def reader(*lines: str) -> tuple[Callable[[str], str], list[str]]:
    prompts: list[str] = []
    waiting = iter(lines)

    def read_line(prompt: str) -> str:
        prompts.append(prompt)
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    return read_line, prompts


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["hello"], "hello"),
        (["  hello  "], "hello"),
        (["one \\", "two\\", "three"], "one \ntwo\nthree"),
        (['"""one', "", '  two"""'], "one\n\n  two"),
        (['"""', "one", '"""'], "one"),
        (['"""one"""'], "one"),
        (["pasted\nat once"], "pasted\nat once"),
    ],
)
def test_lines_become_one_message(lines: list[str], message: str) -> None:
    read_line, prompts = reader(*lines)
    assert read_message(read_line) == message
    assert prompts == [PROMPT, *[MORE] * (len(lines) - 1)]


@pytest.mark.parametrize("lines", [[], ["one\\"], ['"""one']])
def test_input_that_ends_in_the_middle_is_the_end(lines: list[str]) -> None:
    with pytest.raises(EOFError):
        read_message(reader(*lines)[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["what", "is", "this?"], "what is this?\n\npiped in"),
        ([], "piped in"),
        (["-"], "piped in"),
        (["Sum up:", "-"], "Sum up:\n\npiped in"),
        (["Is", "-", "right?"], "Is\n\npiped in\n\nright?"),
    ],
)
def test_words_and_stdin_make_the_message(
    monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("piped in\n"))
    assert message_from(words) == message


def test_nothing_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    with pytest.raises(UsageError):
        message_from([])


def test_stdin_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00"), "utf-8"))
    with pytest.raises(UsageError):
        message_from([])
