"""Checkpoints of a run: each is whole or not there, however the run ended.

Trainers write into a folder for work in progress; what they wrote is moved from there when it is
complete. Knows folders and steps, nothing of what is in a checkpoint.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from qwenkit.models.atomic import atomic_folder

_NAME = re.compile(r"step-(\d+)")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they are.
        keep: How many of the newest stay.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self._keep = keep

    @property
    def work(self) -> Path:
        """Where trainers write what is not whole yet."""
        return self.folder / ".work"

    def newest(self) -> tuple[int, Path] | None:
        """The step and the folder of the newest; None where there is none."""
        found = self._by_step()
        return max(found.items()) if found else None

    def newest_bytes(self) -> int:
        """Size of the newest; 0 where there is none."""
        newest = self.newest()
        return folder_bytes(newest[1]) if newest else 0

    def publish(self, written: Path, *, step: int) -> Path:
        """Make a complete checkpoint of what a trainer wrote, and forget the oldest."""
        target = self.folder / f"step-{step}"
        with atomic_folder(target) as partial:
            for path in written.iterdir():
                path.rename(partial / path.name)
        shutil.rmtree(self.work)
        found = self._by_step()
        for old in sorted(found)[: -self._keep]:
            shutil.rmtree(found[old])
        return target

    def clear_work(self) -> None:
        """Forget what was left half-written."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _by_step(self) -> dict[int, Path]:
        if not self.folder.is_dir():
            return {}
        return {
            int(match[1]): path
            for path in self.folder.iterdir()
            if (match := _NAME.fullmatch(path.name)) and path.is_dir()
        }


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
