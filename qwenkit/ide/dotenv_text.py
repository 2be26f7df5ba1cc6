"""Sets a variable in the text of a `.env` as Node's dotenv reads it. Pure."""

from __future__ import annotations

import re

from qwenkit.errors import InvalidSettings

_PLAIN = re.compile(r"[A-Za-z0-9_./+=:~@%-]+")
_QUOTES = ("'", "`")
"""Between these, dotenv takes every character as it is."""


def with_variable(text: str, name: str, value: str) -> str:
    """The text with the variable set; every other line stays as it is.

    Raises:
        InvalidSettings: No quotes can hold the value.
    """
    line = f"{name}={_quoted(name, value)}"
    pattern = re.compile(rf"^[ \t]*(?:export[ \t]+)?{re.escape(name)}[ \t]*=.*$", re.MULTILINE)
    if pattern.search(text):
        return pattern.sub(lambda _: line, text)
    start = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{start}{line}\n"


def _quoted(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    for quote in _QUOTES:
        if quote not in value and "\n" not in value:
            return f"{quote}{value}{quote}"
    raise InvalidSettings(
        f"the API key has characters that a `.env` can't hold; {name} was not written",
        hint="use a key of letters and digits",
    )
