"""Ctrl-C and SIGTERM while a run trains: the first asks it to stop, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class StopRequest:
    """Whether somebody wants the run to stop."""

    is_made: bool = False


@contextmanager
def stop_on_signals(tell: Callable[[str], None]) -> Iterator[StopRequest]:
    """Take signals as requests during the block.

    Outside the main thread, where Python gives none to anybody, there is never a request.

    Args:
        tell: Told that a request has been heard.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def hear(*_: int | FrameType | None) -> None:
        if request.is_made:
            raise KeyboardInterrupt
        request.is_made = True
        tell("stopping after this step; once more to stop at once and lose it")

    before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
