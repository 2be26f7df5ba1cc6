"""Signals while a run trains."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from qwenkit.training.stopping import stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals) -> None:
    told: list[str] = []
    before = signal.getsignal(number)
    with stop_on_signals(told.append) as request:
        assert not request.is_made
        os.kill(os.getpid(), number)
        assert request.is_made
        assert len(told) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_there_is_never_a_request() -> None:
    found: list[bool] = []

    def look() -> None:
        with stop_on_signals(lambda _: None) as request:
            found.append(request.is_made)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [False]
