"""Beginning and ending, without Ray."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from qwenkit.cli.app import run
from qwenkit.cluster.plan import FleetPlan
from qwenkit.cluster.run import wait_for_signal
from qwenkit.errors import InvalidSettings


def test_a_server_ends_at_a_signal_and_goes_on_at_a_reload(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signals = (signal.SIGHUP, signal.SIGTERM)
    before = [signal.getsignal(each) for each in signals]

    def send() -> None:
        for each in signals:
            os.kill(os.getpid(), each)

    wait_for_signal(on_waiting=threading.Thread(target=send).start)
    assert "start anew" in caplog.text
    assert [signal.getsignal(each) for each in signals] == before


def test_fewer_replicas_at_most_than_at_least_make_no_sense() -> None:
    with pytest.raises(InvalidSettings, match="RAY_MAX_REPLICAS"):
        FleetPlan(replicas=3, max_replicas=2)
    assert FleetPlan(replicas=3).most == 3
    assert FleetPlan(replicas=3, max_replicas=5).most == 5


@pytest.mark.parametrize(("cpus", "gpus", "missing"), [(3, 1, "CPUS"), (4, 0.5, "GPUS")])
def test_replicas_for_which_there_is_no_room_are_not_waited_for(
    cpus: float, gpus: float, missing: str
) -> None:
    plan = FleetPlan(replicas=2, cpus=2, gpus=0.5)
    plan.check_room(4, 1)
    with pytest.raises(InvalidSettings, match=f"RAY_REPLICA_{missing}"):
        plan.check_room(cpus, gpus)


def test_a_log_of_json_says_why_it_could_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setenv("RAY_MAX_REPLICAS", "1")
    assert run(["serve", "--ray", "--port", "0"]) == InvalidSettings("").exit_code
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["level"] for line in said] == ["critical"]
    assert "RAY_MAX_REPLICAS" in said[0]["message"]
