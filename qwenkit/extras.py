"""Imports packages that an extra brings, or says which one is needed. Knows none of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from qwenkit.errors import MissingExtra


def import_extra(package: str, *, extra: str) -> Any:
    """The package, where it is installed.

    Raises:
        MissingExtra: It is not. A package that it needs and lacks itself is another failure.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as exc:
        if exc.name != package:
            raise
        raise MissingExtra(package, extra=extra) from exc
