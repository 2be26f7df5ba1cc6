"""The folders of an adapter's rounds, and which one a request goes on with.

HOME/
  lineage.json          every round that came to its end
  rounds/0001/
    round.json          what it was begun for
    data/               the judgements, as they were then
    current/            the adapter it compares with, as PEFT has it, where it came as a file
    run/                the training's folder, with the adapters
    before.json         the current adapter, measured
    after.json          the new one
    answers.jsonl       what both said to the held-out prompts
    report.json         what came of it
    improvement.png     a picture of it
    lineage.json        which ratings, adapter and choices made the new one; a copy is in run/
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidSettings
from qwenkit.improve.steps import key_of
from qwenkit.models.checkpoint import read_json
from qwenkit.models.held import held_folder
from qwenkit.training.run_folder import RunFolder, write_json


class Round:
    """The folder of one round.

    Args:
        path: Where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts = path / "round.json"
        self.data = path / "data"
        self.current = path / "current"
        self.run = RunFolder(path / "run")
        self.before = path / "before.json"
        self.after = path / "after.json"
        self.answers = path / "answers.jsonl"
        self.report = path / "report.json"
        self.picture = path / "improvement.png"
        self.lineage = path / "lineage.json"
        self.loaded = path / "loaded.json"

    @property
    def number(self) -> int:
        """Its place among the rounds, from 1."""
        return int(self.path.name)

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end."""
        return self.lineage.is_file()

    def begun_for(self) -> dict[str, Any]:
        """What `begin` wrote; empty where it was killed before.

        Raises:
            ModelCorrupt: It is damaged.
        """
        return read_json(self.facts) if self.facts.is_file() else {}

    def begin(self, *, question: Mapping[str, Any], ratings: str) -> None:
        """Say what it is for; its data is there already.

        Args:
            question: What decides its result, but for the ratings.
            ratings: Digest of those.
        """
        write_json(self.facts, {"question": dict(question), "ratings": ratings})

    def discard(self) -> None:
        """Delete it; what it was begun for goes first, so that nobody goes on with the rest."""
        self.facts.unlink(missing_ok=True)
        shutil.rmtree(self.path)

    def key(self) -> str:
        """Short hash of all that decides its results."""
        return key_of(self.begun_for())


class Rounds:
    """All rounds of one adapter.

    Args:
        home: Their folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lineage = home / "lineage.json"
        self._folder = home / "rounds"

    def all(self) -> list[Round]:
        """Every round, oldest first."""
        if not self._folder.is_dir():
            return []
        return [Round(path) for path in sorted(self._folder.iterdir()) if path.name.isdecimal()]

    def finished(self) -> list[Round]:
        """Those that came to their end."""
        return [each for each in self.all() if each.is_finished]

    def same(self, question: Mapping[str, Any], ratings: str) -> Round | None:
        """The newest finished round, if it had the same ratings and choices.

        What it compared with may have been replaced by what it made: then nothing is new either.
        """
        newest = next(reversed(self.finished()), None)
        if newest is None:
            return None
        begun, made = newest.begun_for(), read_json(newest.lineage)
        asked = dict(begun["question"])
        currents = {asked.pop("current"), made["adapter"]["version"]}
        wanted = _as_saved(question)
        is_same = wanted.pop("current") in currents and wanted == asked
        return newest if is_same and begun["ratings"] == ratings else None

    def unfinished(self, question: Mapping[str, Any]) -> Round | None:
        """A round for the same question that was begun and not finished."""
        newest = next(reversed(self.all()), None)
        if newest is None or newest.is_finished:
            return None
        return newest if newest.begun_for().get("question") == _as_saved(question) else None

    def new(self) -> Round:
        """A folder for the next round; what a killed one left at its place is deleted."""
        unfinished = [each for each in self.all() if not each.is_finished]
        for each in unfinished:
            each.discard()
        number = max((each.number for each in self.all()), default=0) + 1
        return Round(self._folder / f"{number:04}")

    def held(self) -> AbstractContextManager[None]:
        """Keep other rounds of this adapter out.

        Raises:
            InvalidSettings: One runs, or the folder can't be made.
        """
        taken = InvalidSettings(
            f"another process works on the rounds in `{self.home}`", hint="wait for its end"
        )
        return held_folder(self.home, taken=taken)


def _as_saved(question: Mapping[str, Any]) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads(json.dumps(question, default=str))
    return saved
