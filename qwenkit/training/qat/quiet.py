"""Imports torchao without what it says of kernels that it can't load on this machine."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from qwenkit.extras import import_extra

# Both warn while torchao is imported, and of nothing that quantising on a grid needs.
_TALKATIVE = ("torchao", "torch.utils._pytree")


@cache
def import_torchao(module: str) -> Any:
    """A module of `torchao.quantization`.

    Raises:
        MissingExtra: torchao is not installed.
    """
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        import_extra("torchao", extra="train")
        return import_extra(f"torchao.quantization.{module}", extra="train")
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
