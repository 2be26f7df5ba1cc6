"""Ends a run of onnxruntime from another thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qwenkit.backends.onnx.runtime import onnxruntime


class Stop:
    """One at a time may be listening; what is asked for meanwhile, and only that, is heard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listening = False
        self._asked = False
        self._options: Any = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear `ask` during the block."""
        with self._lock:
            self._listening, self._asked = True, False
        try:
            yield
        finally:
            with self._lock:
                self._listening, self._options = False, None

    def options(self) -> Any:
        """Options for the next run of the block: `ask` ends it."""
        options = onnxruntime().RunOptions()
        with self._lock:
            options.terminate = self._asked
            self._options = options
        return options

    @property
    def asked(self) -> bool:
        """Whether `ask` was called in the block."""
        return self._asked

    def ask(self) -> None:
        """End the block's runs. Callable from any thread."""
        with self._lock:
            if self._listening:
                self._asked = True
                if self._options is not None:
                    self._options.terminate = True
