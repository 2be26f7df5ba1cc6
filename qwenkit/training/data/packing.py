"""Packs samples into rows of one length, whole samples only, wasting little. Pure lists, no torch.

A packed row is many texts side by side: attention must not look across `lengths`, and positions
begin anew with each. The first token of a sample is never a target, since in a packed row it would
be predicted from somebody else's last one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from qwenkit.errors import InvalidSettings
from qwenkit.training.data.samples import Sample


@dataclass(frozen=True, slots=True)
class PackedRow:
    """Samples side by side.

    Args:
        ids: Their tokens.
        learned: For each token whether it is a target.
        lengths: Tokens of each sample, in order.
        places: Row of the data that each was made of.
    """

    ids: tuple[int, ...] = field(repr=False)
    learned: tuple[bool, ...] = field(repr=False)
    lengths: tuple[int, ...]
    places: tuple[str, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens in it; the rest of the row's length is padding."""
        return len(self.ids)

    @property
    def positions(self) -> tuple[int, ...]:
        """Position of each token in its own sample."""
        return tuple(position for length in self.lengths for position in range(length))


def pack(samples: Iterable[Sample], *, length: int) -> list[PackedRow]:
    """Put samples into as few rows as best-fit-decreasing finds; every sample is in one of them.

    Rows come in the order of their first samples, and within a row samples keep their order, so
    that the result depends on nothing but the samples.

    Args:
        samples: What to pack.
        length: Most tokens of a row.

    Raises:
        InvalidSettings: A sample is longer than a row.
    """
    ordered = list(samples)
    bins = _best_fit(ordered, length)
    return [_row([ordered[index] for index in sorted(each)]) for each in sorted(bins, key=min)]


def packed_row_lengths(lengths: Iterable[int], *, length: int) -> list[int]:
    """Tokens of each row that `pack` would make of samples of these lengths.

    Raises:
        InvalidSettings: One is longer than a row.
    """
    rows = _Rows(length)
    for n_tokens in sorted(lengths, reverse=True):
        rows.place(n_tokens)
    return rows.filled


def _best_fit(samples: list[Sample], length: int) -> list[list[int]]:
    bins: list[list[int]] = []
    rows = _Rows(length)
    for index in sorted(range(len(samples)), key=lambda i: (-samples[i].n_tokens, i)):
        row = rows.place(samples[index].n_tokens, samples[index].place)
        if row == len(bins):
            bins.append([])
        bins[row].append(index)
    return bins


class _Rows:
    """Rows by the room that is left in them."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._room: list[tuple[int, int]] = []
        self.filled: list[int] = []

    def place(self, n_tokens: int, name: str = "a sample") -> int:
        """Number of the fullest row that still takes so many tokens, or of a new one."""
        if n_tokens > self._length:
            raise InvalidSettings(
                f"{name} has {n_tokens} tokens and a row holds {self._length}",
                hint="pack into rows that are at least as long as the longest sample",
            )
        found = bisect_left(self._room, (n_tokens, -1))
        if found == len(self._room):
            room, row = self._length, len(self.filled)
            self.filled.append(0)
        else:
            room, row = self._room.pop(found)
        self.filled[row] += n_tokens
        insort(self._room, (room - n_tokens, row))
        return row


def _row(samples: list[Sample]) -> PackedRow:
    return PackedRow(
        ids=tuple(token for sample in samples for token in sample.ids),
        learned=tuple(flag for sample in samples for flag in _targets(sample)),
        lengths=tuple(sample.n_tokens for sample in samples),
        places=tuple(sample.place for sample in samples),
    )


def _targets(sample: Sample) -> Iterator[bool]:
    for index, flag in enumerate(sample.learned):
        yield flag and index > 0
