"""Packs token ids into rows of one length without a padding loss: a scene's shared beginning stands
in a row once, and each of its samples sees that beginning and itself alone. Pure lists, no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

NO_SEGMENT: Final = -1
"""The segment of padding, and the parent of a segment that has none."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One sample as ids: `prompt` is given, `completion` is to be learned."""

    prompt: list[int]
    completion: list[int]


@dataclass(frozen=True, slots=True)
class Scene:
    """Pieces that continue the same `shared` ids."""

    shared: list[int]
    pieces: list[Piece]


@dataclass(slots=True)
class Row:
    """Tokens side by side, each with its position, its segment, and the segment it continues.

    A token sees the earlier tokens of its own segment and all of the segment's parent. `learned`
    marks the tokens that are to be predicted.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    n_segments: int = 0

    def __len__(self) -> int:
        """Tokens so far."""
        return len(self.ids)

    def add(self, ids: list[int], *, start: int, parent: int, n_given: int) -> int:
        """Adds a segment whose first `n_given` tokens are not to be learned; gives its number."""
        segment = self.n_segments
        self.n_segments += 1
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.segments += [segment] * len(ids)
        self.parents += [parent] * len(ids)
        self.learned += [index >= n_given for index in range(len(ids))]
        return segment

    def pad(self, length: int, pad_id: int) -> None:
        """Fills the row up to `length`; padding sees itself and is never learned."""
        n = length - len(self)
        self.ids += [pad_id] * n
        self.positions += range(n)
        self.segments += [NO_SEGMENT] * n
        self.parents += [NO_SEGMENT] * n
        self.learned += [False] * n


def pack(scenes: Iterable[Scene], *, length: int, pad_id: int) -> Iterator[Row]:
    """Full rows, in the order of the scenes; pieces too long for a row are left out."""
    row = Row()
    for scene in scenes:
        parent = NO_SEGMENT
        for piece in scene.pieces:
            ids = piece.prompt + piece.completion
            if len(scene.shared) + len(ids) > length:
                continue
            repeated = 0 if parent != NO_SEGMENT else len(scene.shared)
            if len(row) + repeated + len(ids) > length:
                row.pad(length, pad_id)
                yield row
                row, parent = Row(), NO_SEGMENT
            if scene.shared and parent == NO_SEGMENT:
                parent = row.add(
                    scene.shared, start=0, parent=NO_SEGMENT, n_given=len(scene.shared)
                )
            # The first token of a segment has no neighbour to be predicted from.
            n_given = max(len(piece.prompt), 1)
            row.add(ids, start=len(scene.shared), parent=parent, n_given=n_given)
