"""Keeps the training libraries' talk away from our output, and their telemetry from the network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from qwenkit.errors import MissingExtra
from qwenkit.extras import import_extra

PACKAGES = ("torch", "transformers", "peft", "trl", "datasets", "accelerate")
"""What training takes, whatever the method."""
_AT_THE_END = ("onnxruntime", "matplotlib")

# All of them warn: of kernels that don't load, of names that will change, of their own defaults.
_TALKATIVE = (*PACKAGES, "torchao", "torch.utils._pytree", "torch.distributed", "huggingface_hub")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, logs and progress bars of the libraries, also while they are imported.

    Raises:
        MissingExtra: One of them is not installed.
    """
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _require_packages()
            with _no_progress_bars(), _no_telemetry():
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _require_packages() -> None:
    # What is missing is told at once, not after seconds, or after the last step.
    for name in (*PACKAGES, *_AT_THE_END):
        if find_spec(name) is None:
            raise MissingExtra(name, extra="train")
    for name in PACKAGES:
        import_extra(name, extra="train")


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    theirs = import_extra("transformers.utils.logging", extra="train")
    datasets = import_extra("datasets", extra="train")
    verbosity, shown = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    shown_too = not datasets.are_progress_bars_disabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if shown:
            theirs.enable_progress_bar()
        if shown_too:
            datasets.enable_progress_bars()


@contextmanager
def _no_telemetry() -> Iterator[None]:
    constants = import_extra("huggingface_hub.constants", extra="train")
    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before
