"""A server whose log can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenkit.feedback.reader import read_log
from qwenkit.feedback.records import Interaction, ToolRun


class Log:
    """The feedback log of a test's server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def records(self) -> list[Any]:
        """Everything, in the order it was written in; fails where a line is none."""
        unread: list[Any] = []
        records = [*read_log(self.folder, on_skip=unread.append)]
        assert unread == []
        return records

    def answers(self) -> list[Interaction]:
        return [each for each in self.records() if isinstance(each, Interaction)]

    def tool_runs(self) -> list[ToolRun]:
        return [each for each in self.records() if isinstance(each, ToolRun)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "logs" / "feedback")


@pytest.fixture
def drained() -> Callable[..., Any]:
    """Waits until everything that was submitted is in the log."""

    async def drained(client: Any) -> None:
        await client.state.recorder.written(list)

    return drained
