from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwenkit.cli import app as root


def seconds(*args: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *args], check=True, capture_output=True)
    return time.perf_counter() - begin


def test_help_takes_at_most_three_times_as_long_as_importing_typer() -> None:
    pairs = [(seconds("-m", "qwenkit", "--help"), seconds("-c", "import typer")) for _ in range(7)]
    assert statistics.median(ours / typers for ours, typers in pairs) <= 3


def test_help_imports_neither_rich_nor_pydantic_nor_numpy() -> None:
    code = "import sys; from qwenkit.cli.app import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"rich", "pydantic_settings", "numpy", "httpx", "llama_cpp"}


def test_help_lists_every_command_with_its_summary(qwenkit) -> None:
    shown = qwenkit("--help").stdout
    for name, summary in root.SUMMARIES.items():
        assert f"{name} " in shown
        assert summary in shown


@pytest.mark.parametrize("name", list(root.SUMMARIES))
def test_a_commands_own_help_begins_with_the_summary_that_the_root_shows(name: str) -> None:
    assert (root.load_command(name).help or "").startswith(root.SUMMARIES[name])


@pytest.mark.parametrize("name", list(root.SUMMARIES))
def test_only_the_root_offers_shell_completion(name: str) -> None:
    assert not {each.name for each in root.load_command(name).params} & root.COMPLETION_FLAGS


def test_the_version_is_printed_on_stdout(qwenkit) -> None:
    done = qwenkit("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("qwenkit ")


def test_without_a_command_the_help_goes_to_stderr_and_the_exit_code_is_2(qwenkit) -> None:
    done = qwenkit()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["srve"], "`srve`"),
        (["--wrong"], "--wrong"),
        (["serve", "--port"], "`--port`"),
        (["chat", "--max-tokens", "many"], "`--max-tokens`"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_a_hint_and_exit_code_2(
    qwenkit, args: list[str], named: str
) -> None:
    done = qwenkit(*args)
    first, second = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert first.startswith("error: ")
    assert named in first
    assert second.startswith("hint: qwenkit")
    assert second.endswith("--help")


def test_a_misspelt_command_is_answered_with_the_likely_one(qwenkit) -> None:
    assert "`serve`" in qwenkit("srve").stderr


@pytest.mark.parametrize("setting", ["N_CTX", "PORT"])
def test_a_wrong_setting_is_named_and_ends_with_exit_code_2(qwenkit, setting: str) -> None:
    done = qwenkit("serve", **{setting: "many"})
    assert done.returncode == 2
    assert setting in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback_and_asks_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(root, "load_command", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        root.run(["serve"])
    assert caught.value.__notes__ == [root.BUG_NOTE]


def test_a_reader_that_leaves_early_causes_no_complaint(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "qwenkit", "doctor", "--json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")
