"""The heavy packages of the `train` extra, or the error that names it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from qwenkit.errors import MissingExtra


def import_torch() -> Any:
    """Torch.

    Raises:
        MissingExtra: It is not installed.
    """
    return _imported("torch")


def import_transformers() -> Any:
    """Transformers.

    Raises:
        MissingExtra: It is not installed.
    """
    return _imported("transformers")


def import_tokenizers() -> Any:
    """Tokenizers.

    Raises:
        MissingExtra: It is not installed.
    """
    return _imported("tokenizers")


def _imported(package: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as exc:
        if exc.name != package:
            raise
        raise MissingExtra(package, extra="train") from exc
