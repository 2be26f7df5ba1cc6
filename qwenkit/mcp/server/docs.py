"""The guides that come with qwenkit, as documents that a client can read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import qwenkit

_PACKAGE = Path(qwenkit.__file__).parent
FOLDERS = (_PACKAGE / "guides", _PACKAGE.parent / "docs" / "guides")
"""Where the guides are in an installed package, and where in a checkout."""
URI = "qwenkit://guides/"


@dataclass(frozen=True, slots=True)
class Guide:
    """A document in Markdown.

    Args:
        name: Its file's, without the ending.
        title: Its first heading.
        path: Where it is.
    """

    name: str
    title: str
    path: Path

    @property
    def uri(self) -> str:
        """What clients ask for it by."""
        return URI + self.name

    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")


def guides() -> tuple[Guide, ...]:
    """Every guide that is here, by name."""
    folder = next((each for each in FOLDERS if each.is_dir()), None)
    return () if folder is None else tuple(_read(folder))


def _read(folder: Path) -> Iterator[Guide]:
    for path in sorted(folder.glob("*.md")):
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        yield Guide(path.stem, first.removeprefix("#").strip() or path.stem, path)
