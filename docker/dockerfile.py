"""Reads Dockerfiles and their ignore files. Knows as much of them as ours use; runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

MOUNT = re.compile(r"--mount=(\S+)\s+")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: `RUN`, and what stands behind it on one line."""

    keyword: str
    argument: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of another stage that a `RUN` sees as its own."""

    stage: str
    source: str
    target: str


@dataclass(slots=True)
class Stage:
    """What one `FROM` begins.

    Args:
        name: Its name; its number where it has none.
        base: The image or stage it begins with.
    """

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


def stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, in order.

    Raises:
        ValueError: An instruction stands before the first `FROM`.
    """
    found: list[Stage] = []
    for instruction in instructions(path.read_text(encoding="utf-8")):
        if instruction.keyword == "FROM":
            base, _, name = instruction.argument.partition(" AS ")
            found.append(Stage(name or str(len(found)), base))
        elif found:
            found[-1].instructions.append(instruction)
        else:
            raise ValueError(f"`{path}` has {instruction.keyword} before its first FROM")
    return found


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a text, each with its continued lines joined."""
    lines = [each for each in text.splitlines() if not each.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    for line in joined.splitlines():
        keyword, _, argument = line.strip().partition(" ")
        if keyword:
            yield Instruction(keyword.upper(), argument.strip())


def image_of(stage: Stage, known: list[Stage]) -> str:
    """The published image that a stage is made from, through the stages between."""
    bases = {each.name: each.base for each in known}
    image = stage.base
    while image in bases:
        image = bases[image]
    return image


def split_mounts(argument: str) -> tuple[list[Mount], str]:
    """The mounts of a `RUN`, and its command without them."""
    options = [
        dict(pair.split("=", 1) for pair in found.split(",")) for found in MOUNT.findall(argument)
    ]
    mounts = [Mount(each["from"], each["source"], each["target"]) for each in options]
    return mounts, MOUNT.sub("", argument)


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether an ignore file keeps a path, relative to the context, out of the build."""
    ignored = False
    for pattern in patterns:
        again = pattern.startswith("!")
        if _matches(path, pattern.removeprefix("!")):
            ignored = not again
    return ignored


def _matches(path: str, pattern: str) -> bool:
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern.removeprefix("**/")) for part in parts)
    return any(fnmatch(each, pattern) for each in above)


def patterns_of(dockerfile: Path) -> list[str]:
    """The patterns of a Dockerfile's own ignore file."""
    text = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text(encoding="utf-8")
    lines = (each.strip() for each in text.splitlines())
    return [each for each in lines if each and not each.startswith("#")]
