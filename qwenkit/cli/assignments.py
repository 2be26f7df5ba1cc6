"""Reads `NAME=VALUE` words of a command line. Knows no names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwenkit.errors import UsageError


def assignments(words: Sequence[str]) -> dict[str, Any]:
    """Values by name; a name that comes again makes a list.

    Raises:
        UsageError: A word sets nothing.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"`{word}` sets nothing", hint="--set NAME=VALUE")
        key = name.strip().replace("-", "_")
        found[key] = [*_listed(found[key]), value] if key in found else value
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
