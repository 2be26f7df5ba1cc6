"""Reads what a person types, several lines at a time where they say so. Knows no commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from qwenkit.errors import UsageError

ReadLine: TypeAlias = Callable[[str], str]

PROMPT = "> "
MORE = "… "
QUOTES = '"""'


def read_message(read_line: ReadLine) -> str:
    r"""Read one message: a line, lines joined by a `\` at their ends, or lines between `\"\"\"`.

    Args:
        read_line: Shows a prompt and reads a line.

    Raises:
        EOFError: There is no more input.
    """
    line = read_line(PROMPT)
    if line.lstrip().startswith(QUOTES):
        return _read_quoted(line.lstrip().removeprefix(QUOTES), read_line)
    lines = []
    while line.endswith("\\"):
        lines.append(line.removesuffix("\\"))
        line = read_line(MORE)
    return "\n".join([*lines, line]).strip()


def _read_quoted(line: str, read_line: ReadLine) -> str:
    lines = []
    while not line.rstrip().endswith(QUOTES):
        lines.append(line)
        line = read_line(MORE)
    lines.append(line.rstrip().removesuffix(QUOTES))
    return "\n".join(lines).strip()


def terminal_reader(commands: Sequence[str]) -> ReadLine:
    """A reader of lines with editing, history by arrow keys and completion of commands."""
    with suppress(ImportError):  # some builds of Python have no readline; `input` works without
        _set_up_readline(commands)
        return lambda prompt: input(_bold(prompt))
    return input


def _set_up_readline(commands: Sequence[str]) -> None:
    import readline

    names = [f"/{name} " for name in commands]

    def complete(text: str, state: int) -> str | None:
        matches = [name for name in names if text.startswith("/") and name.startswith(text)]
        return matches[state] if state < len(matches) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \n")
    readline.parse_and_bind("tab: complete")
    # Python turns this off; with it, pasted text stays one message.
    readline.parse_and_bind("set enable-bracketed-paste on")


def _bold(prompt: str) -> str:
    # readline must be told which characters take no room.
    return f"\x01\x1b[1m\x02{prompt}\x01\x1b[0m\x02"


def message_from(words: Sequence[str]) -> str:
    """The message that a command line and what is piped in make.

    What is piped in stands where the words say `-`, else after them.

    Raises:
        UsageError: There is none, or what is piped in is no UTF-8 text.
    """
    if "-" in words:
        piped = _read_stdin()
        parts = [piped if word == "-" else word for word in words]
    else:
        waits = not words or not sys.stdin.isatty()
        parts = [" ".join(words), _read_stdin() if waits else ""]
    message = "\n\n".join(part.strip() for part in parts if part.strip())
    if not message:
        raise UsageError("there is no message", hint='qwenkit chat "question", or pipe one in')
    return message


def _read_stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as exc:
        raise UsageError("what was piped in is no UTF-8 text") from exc
