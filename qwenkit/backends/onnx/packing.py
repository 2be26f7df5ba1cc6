"""Which row of the KV arrays each slot has, and which rows one step computes. Pure.

Sequences are decoded together when their rows are neighbours. A row in between that has nothing to
compute is computed all the same, to no effect; or else the neighbours change places. Moving a row
costs time once, an idle row costs time in every step, so rows are moved when the idle ones so far
have cost as much as moving would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# An idle row takes about as long as copying so many tokens of a row (0.6B, int4, two cores).
_TOKENS_PER_IDLE_ROW = 200
# Another run reads all weights once more, which takes as long as so many rows.
_ROWS_PER_RUN = 2


@dataclass(frozen=True, slots=True)
class Span:
    """Rows that are computed together: `n` of them from `first` on."""

    first: int
    n: int

    @property
    def rows(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + self.n)


@dataclass(frozen=True, slots=True)
class Swap:
    """Two rows change places."""

    a: int
    b: int


class Packing:
    """A permutation of slots and rows.

    Args:
        n: How many there are.
        n_ctx: Tokens a row holds. A full one can't be idle: there is no cell left to waste.
        can_move: Whether rows can change places.
    """

    def __init__(self, n: int, *, n_ctx: int, can_move: bool) -> None:
        self._n_ctx = n_ctx
        self._can_move = can_move
        self._row_of = list(range(n))
        self._slot_at = list(range(n))
        self._debt = 0

    def row_of(self, slot: int) -> int:
        """The row that a slot has."""
        return self._row_of[slot]

    def slot_at(self, row: int) -> int:
        """The slot that has a row."""
        return self._slot_at[row]

    def plan(self, slots: Sequence[int], lengths: Sequence[int]) -> tuple[list[Swap], list[Span]]:
        """What to move first, and what to run then.

        Args:
            slots: Those that compute one token each.
            lengths: Tokens that each slot holds, of all slots.

        Returns:
            Swaps, in this order, which are taken as done here; and the rows to run.
        """
        spans = self._spans(slots, lengths)
        n_wasted = sum(span.n for span in spans) - len(slots) + _ROWS_PER_RUN * (len(spans) - 1)
        self._debt = self._debt + n_wasted * _TOKENS_PER_IDLE_ROW if n_wasted else 0
        if not n_wasted or not self._can_move:
            return [], spans
        swaps, n_tokens = self._together(slots, lengths)
        if n_tokens > self._debt:
            return [], spans
        self._debt = 0
        for swap in swaps:
            self._apply(swap)
        return swaps, self._spans(slots, lengths)

    def _spans(self, slots: Sequence[int], lengths: Sequence[int]) -> list[Span]:
        rows = sorted(self._row_of[slot] for slot in slots)
        spans = [Span(rows[0], 1)]
        for row in rows[1:]:
            last = spans[-1]
            gap = range(last.first + last.n, row)
            full = any(lengths[self._slot_at[idle]] >= self._n_ctx for idle in gap)
            if full or len(gap) > _ROWS_PER_RUN:
                spans.append(Span(row, 1))
            else:
                spans[-1] = Span(last.first, row - last.first + 1)
        return spans

    def _together(self, slots: Sequence[int], lengths: Sequence[int]) -> tuple[list[Swap], int]:
        """The cheapest way to make the slots neighbours, and the tokens that are copied for it."""
        wanted = {self._row_of[slot] for slot in slots}
        held = [lengths[slot] for slot in self._slot_at]
        ways = []
        for first in range(len(held) - len(wanted) + 1):
            window = range(first, first + len(wanted))
            outside = sorted(wanted - set(window))
            inside = [row for row in window if row not in wanted]
            n_tokens = sum(held[row] for row in (*outside, *inside))
            ways.append((n_tokens, [Swap(a, b) for a, b in zip(inside, outside, strict=True)]))
        n_tokens, swaps = min(ways, key=lambda way: (way[0], len(way[1])))
        return swaps, n_tokens

    def _apply(self, swap: Swap) -> None:
        first, second = self._slot_at[swap.a], self._slot_at[swap.b]
        self._slot_at[swap.a], self._slot_at[swap.b] = second, first
        self._row_of[first], self._row_of[second] = swap.b, swap.a
