"""Small data, and a way to run `qwenkit` in processes that can be killed without starting anew."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from qwenkit.cli.app import run

QUESTIONS = ("How tall is a giraffe?", "What do bees make?", "Who wrote Faust?", "Is tea hot?")
ANSWERS = ("About five metres.", "Honey, and wax too.", "Goethe did.", "It should be.")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Twelve conversations of different lengths."""
    path = tmp_path / "rows.jsonl"
    lines = [
        {
            "messages": [
                {"role": "user", "content": " ".join(QUESTIONS[: 1 + i % 4])},
                {"role": "assistant", "content": " ".join(ANSWERS[: 1 + i % 3]) + f" ({i})"},
            ]
        }
        for i in range(12)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def fork_server() -> multiprocessing.context.ForkServerContext:
    """Its processes have what training takes imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["qwenkit.cli.finetune", "qwenkit.training.finetune", "trl.trainer.sft_trainer", "peft"]
    )
    return context


@pytest.fixture
def start(
    fork_server: multiprocessing.context.ForkServerContext,
) -> Iterator[Callable[..., BaseProcess]]:
    """Start `qwenkit` with arguments in a process of its own."""
    started: list[BaseProcess] = []

    def start(*args: str) -> BaseProcess:
        process = fork_server.Process(target=run, args=(args,))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
