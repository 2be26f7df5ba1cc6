"""What adapters learned from, by the keys of threads and prompts: a file of a round, a key a line.

A round holds out nothing that its current adapter, or one before it, learned from: the current
adapter would know it by heart, and the comparison would be unfair. The hash that decides what is
held out mostly sees to that by itself, but not where another share or seed is chosen, a larger
share is needed, the oldest answer of a thread is judged or deleted later, or threads come to hang
together.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qwenkit.errors import ModelCorrupt
from qwenkit.models.atomic import atomic_file


def write_learned(keys: Iterable[bytes], target: Path) -> None:
    """Write keys, whole or not at all."""
    with atomic_file(target) as partial, partial.open("w", encoding="ascii") as file:
        file.writelines(f"{key.hex()}\n" for key in keys)


def read_learned(paths: Iterable[Path]) -> set[bytes]:
    """The keys of several files.

    Raises:
        ModelCorrupt: One is damaged, or not there.
    """
    found: set[bytes] = set()
    for path in paths:
        try:
            found.update(bytes.fromhex(line) for line in path.read_text("ascii").splitlines())
        except (OSError, ValueError) as exc:
            raise ModelCorrupt(
                f"`{path}` can't be read, and it says what an adapter learned from: {exc}",
                hint="put it back; or begin anew under another --name",
            ) from exc
    return found
