"""Keeps other libraries' talk away from our output."""

from __future__ import annotations

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
    logging = import_extra("transformers.utils.logging")
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as exc:
        if text := said.getvalue().strip():
            exc.add_note(f"The exporter's last words: {text[-_LAST_WORDS:]}")
        raise
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
