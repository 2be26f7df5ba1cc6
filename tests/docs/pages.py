"""What a page of the documentation says that can be run: its fenced blocks, in order.

Knows Markdown's fences and three remarks that may stand before one, which readers do not see:

    <!-- not run: the reason -->        it can't be run here
    <!-- given: adapter conversations --> what `given.py` puts into the folder first
    <!-- exit code: 2 -->               how its last command ends

Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = DOCS / "guides"

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?\s*$")
REMARK = re.compile(r"^<!-- (?P<kind>not run|given|exit code): (?P<text>.+) -->$")
RUN = frozenset({"console", "bash", "python"})
FILE_NAME = re.compile(r"^[\w./-]+\.\w+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block.

    Args:
        language: The word behind the fence.
        title: Its title; a file's name makes it a file.
        text: What stands in it, without the fence's own indentation.
        line: Of the fence, from 1.
        not_run: Why it can't be run, if it can't.
        given: Names of what it needs to be there.
        exit_code: What its last command ends with.
    """

    language: str
    title: str
    text: str
    line: int
    not_run: str | None = None
    given: tuple[str, ...] = ()
    exit_code: int = 0

    @property
    def is_code(self) -> bool:
        """Whether it is something that a reader runs."""
        return self.language in RUN

    @property
    def is_file(self) -> bool:
        """Whether it shows a file, by its name."""
        return FILE_NAME.match(self.title) is not None


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block, and the lines that it is shown to print."""

    text: str
    shown: tuple[str, ...]


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a page."""
    return list(_blocks(path.read_text(encoding="utf-8").splitlines()))


def _blocks(lines: list[str]) -> Iterator[Block]:
    remarks: dict[str, str] = {}
    numbered = iter(enumerate(lines, start=1))
    for number, line in numbered:
        if remark := REMARK.match(line.strip()):
            remarks[remark["kind"]] = remark["text"]
        elif fence := FENCE.match(line):
            yield Block(
                language=fence["language"],
                title=fence["title"] or "",
                text=_body(numbered, fence["indent"]),
                line=number,
                not_run=remarks.get("not run"),
                given=tuple(remarks.get("given", "").split()),
                exit_code=int(remarks.get("exit code", "0")),
            )
            remarks = {}
        elif line.strip():
            remarks = {}


def _body(lines: Iterator[tuple[int, str]], indent: str) -> str:
    body = []
    for _, line in lines:
        if line.strip() == "```":
            break
        body.append(line.removeprefix(indent))
    return "".join(f"{line}\n" for line in body)


def commands(text: str) -> list[Command]:
    """The commands of a console block: lines behind `$ `, with those that go on with them."""
    found: list[tuple[list[str], list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(([line.removeprefix("$ ")], []))
        elif found and _goes_on(found[-1][0]):
            found[-1][0].append(line.removeprefix("> "))
        elif found and line.strip():
            found[-1][1].append(line)
    return [Command("\n".join(typed), tuple(shown)) for typed, shown in found]


def _goes_on(typed: list[str]) -> bool:
    return typed[-1].endswith("\\") or "\n".join(typed).count("'") % 2 == 1


def shows(line: str, printed: str) -> bool:
    """Whether a line that a page shows stands in what was printed, but for numbers and ids.

    `…` stands for anything; a number, a size's unit and a hexadecimal id for any other one.
    """
    pattern = "".join(map(_pattern, re.findall(r"…|\s+|[^\s…]+", line.strip())))
    return any(re.fullmatch(pattern, each.strip()) for each in printed.splitlines())


HEXADECIMAL = re.compile(r"[0-9a-f]{8,}", re.IGNORECASE)
_LOOSE = re.compile(
    r"\b[0-9a-f]{8,}\b|[+-]?\d[\d,.:]*(?:e[+-]?\d+)?|\b[kMG]B\b|(?<![\w])'[^']*'", re.IGNORECASE
)


def _pattern(word: str) -> str:
    if word == "…":
        return ".*?"
    if word.isspace():
        return r"\s+"
    pieces, end = [], 0
    for loose in _LOOSE.finditer(word):
        pieces += [re.escape(word[end : loose.start()]), _any_of_its_kind(loose[0])]
        end = loose.end()
    return "".join([*pieces, re.escape(word[end:])])


def _any_of_its_kind(text: str) -> str:
    if text[1:] == "B":
        return "[kMG]?B"
    if text.startswith("'"):
        return "'.*?'"
    if HEXADECIMAL.fullmatch(text):
        return "[0-9a-fA-F]+"
    return r"[+-]?\d[\d,.:]*(?:e[+-]?\d+)?"
