"""Keeps other libraries' talk away from our output."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

from qwenkit.export.extras import import_extra

_LAST_WORDS = 500


@contextmanager
def quiet() -> Iterator[None]:
    """Keep stdout for data and the terminal for our own progress; a failure tells what was said."""
    said = StringIO()
    theirs = import_extra("transformers.utils.logging")
    shown, verbosity = theirs.is_progress_bar_enabled(), theirs.get_verbosity()
    theirs.disable_progress_bar()
    theirs.set_verbosity_error()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as exc:
        if text := said.getvalue().strip():
            exc.add_note(f"The exporter's last words: {text[-_LAST_WORDS:]}")
        raise
    finally:
        # Some of what they import sets up logging for the whole process.
        root.handlers[:] = handlers
        root.setLevel(level)
        theirs.set_verbosity(verbosity)
        if shown:
            theirs.enable_progress_bar()
