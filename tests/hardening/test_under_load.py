"""The scripts beside this file, for minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run(script: str, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", f"tests.hardening.{script}", "--json", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.stdout, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


def test_ten_minutes_of_mixed_work_leave_memory_slots_and_files_flat() -> None:
    report = run("soak", "--minutes", "10")
    assert report["faults"] == [], report


def test_ten_thousand_mutated_requests_break_nothing_and_delay_nobody() -> None:
    report = run("fuzz", "--requests", "10000")
    assert report["faults"] == [], report
