"""The heavy packages of the `train` extra, or the error that names it."""

from __future__ import annotations

from typing import Any

from qwenkit.extras import import_extra


def import_torch() -> Any:
    """Torch.

    Raises:
        MissingExtra: It is not installed.
    """
    return import_extra("torch", extra="train")


def import_transformers() -> Any:
    """Transformers.

    Raises:
        MissingExtra: It is not installed.
    """
    return import_extra("transformers", extra="train")


def import_tokenizers() -> Any:
    """Tokenizers.

    Raises:
        MissingExtra: It is not installed.
    """
    return import_extra("tokenizers", extra="train")
