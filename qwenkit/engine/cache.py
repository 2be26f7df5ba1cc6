"""Which tokens every slot holds, and which cells they share. The one owner of a backend's memory.

A slot is *running* while a sequence computes in it and *parked* afterwards: its state stays until
the room is needed, least recently used first. A new sequence starts from a copy of the longest
prefix that any slot holds, running or parked, whichever request made it. Where a backend can't
copy, it goes on in the parked slot itself.

Parked states that are not needed soon go to a shelf in ordinary memory while others run.

The backend's cells are mirrored here one to one with a reference count, so that room is made
before a decode would run out of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from qwenkit.backends.base import Backend, IntArray
from qwenkit.engine.prefix import common_prefix
from qwenkit.engine.shelf import Shelf, Shelved

# Parked cells that may stay in the cache while others run: llama.cpp's attention looks at cells in
# steps of this many.
_PARKED_CELLS = 256
# Tokens that a shelved state must have beyond what is in the cache to be worth a copy.
_WORTH_RESTORING = 16
_NO_TOKENS = np.empty(0, np.int32)


@dataclass(slots=True)
class Resident:
    """The state that a slot holds.

    Args:
        namespace: What it depends on beside its tokens.
        tokens: The tokens computed, `[length]`; the array may be longer.
        cells: The cell of each.
        length: How many.
        running: Whether a sequence computes in it.
        used: When it was last of use, as a count of uses.
    """

    namespace: str
    tokens: IntArray
    cells: IntArray
    length: int = 0
    running: bool = True
    used: int = 0


@dataclass(slots=True)
class Cells:
    """The backend's KV cells: which are free and how many slots share each."""

    n_cells: int
    references: IntArray = field(init=False)
    _free: IntArray = field(init=False)
    n_free: int = field(init=False)

    def __post_init__(self) -> None:
        self.references = np.zeros(self.n_cells, np.int32)
        self._free = np.arange(self.n_cells, dtype=np.int32)
        self.n_free = self.n_cells

    def take(self, n: int) -> IntArray:
        """Take n free cells."""
        self.n_free -= n
        cells = self._free[self.n_free : self.n_free + n].copy()
        self.references[cells] = 1
        return cells

    def share(self, cells: IntArray) -> None:
        """Count one more holder of each."""
        self.references[cells] += 1

    def n_unshared(self, cells: IntArray) -> int:
        """How many of them have one holder."""
        return int(np.count_nonzero(self.references[cells] == 1))

    def release(self, cells: IntArray) -> None:
        """Count one holder less of each; those without any are free."""
        self.references[cells] -= 1
        freed = cells[self.references[cells] == 0]
        self._free[self.n_free : self.n_free + len(freed)] = freed
        self.n_free += len(freed)


class SlotCache:
    """Owns the slots and cells of a backend.

    Args:
        backend: Whose memory; its states are trimmed, copied, saved and loaded here.
        shelf_bytes: Ordinary memory for states that are put aside.
    """

    def __init__(self, backend: Backend, *, shelf_bytes: int = 0) -> None:
        self._backend = backend
        self.shelf = Shelf(shelf_bytes if backend.capabilities.saves_states else 0)
        self._crowded = False
        self._caps = backend.capabilities
        self._cells = Cells(self._caps.n_cells)
        self._residents: dict[int, Resident] = {}
        self._n_running = 0
        self._uses = 0
        self.n_evicted = 0
        self.n_restored = 0

    @property
    def n_free(self) -> int:
        """Cells that hold nothing."""
        return self._cells.n_free

    @property
    def n_used(self) -> int:
        """Cells that hold something."""
        return self._caps.n_cells - self._cells.n_free

    @property
    def n_parked(self) -> int:
        """Slots that are only kept for reuse. Callable from any thread."""
        return len(self._residents) - self._n_running

    def n_available(self) -> int:
        """Cells that are free or would be if every parked state were dropped."""
        held = np.zeros(self._caps.n_cells, bool)
        for resident in self._residents.values():
            if resident.running:
                held[resident.cells[: resident.length]] = True
        return self._caps.n_cells - int(np.count_nonzero(held))

    def match(self, namespace: str, tokens: IntArray) -> tuple[int, int]:
        """The slot with the longest prefix of `tokens` that can be had, and its length.

        (-1, 0) where there is none.
        """
        best, best_length = -1, 0
        for slot, resident in self._residents.items():
            if resident.running and not self._caps.copies:
                continue
            if resident.namespace != namespace or resident.length <= best_length:
                continue
            length = common_prefix(resident.tokens[: resident.length], tokens)
            if length > best_length:
                best, best_length = slot, length
        return best, best_length

    def can_start(self) -> bool:
        """Whether a decodable slot is free or can be made free."""
        return any(not self._is_running(slot) for slot in range(self._caps.n_slots))

    def held_by_running(self, namespace: str, tokens: IntArray) -> int:
        """Tokens of the longest prefix at hand whose cells a running slot holds anyway."""
        slot, length = self.match(namespace, tokens)
        return length if self._caps.shares_cells and self._is_running(slot) else 0

    def start(self, namespace: str, tokens: IntArray, n_reusable: int) -> tuple[int, int]:
        """Give a slot to a sequence, holding the longest prefix of its tokens at hand.

        Args:
            namespace: What its state depends on beside tokens.
            tokens: What is to be computed; the array is kept, and filled as the sequence grows.
            n_reusable: How many of them may come from another slot.

        Returns:
            The slot, and how many tokens it holds already.
        """
        source, length = self.match(namespace, tokens[:n_reusable])
        restored = self._restore(namespace, tokens[:n_reusable], beyond=length)
        if restored is not None:
            source, length = restored
        elif source >= 0 and source not in self._residents:
            # What was put aside to bring a state back, and could not be brought back, was this one.
            source, length = self.match(namespace, tokens[:n_reusable])
        slot = source if restored is not None else self._vacate(source, length)
        if slot == source:
            resident = self._residents[slot]
            if length < resident.length and restored is None:
                self._save(slot, keep=source)
            self._shorten(slot, length)
        else:
            resident = Resident(namespace, _NO_TOKENS, _NO_TOKENS)
            self._residents[slot] = resident
            if source >= 0:
                self._touch(source)
                if self._caps.copies and self._has_room_for_copy(source, length):
                    self._copy(source, slot, length)
        resident.running = True
        self._n_running += 1
        resident.tokens = tokens
        self._touch(slot)
        self._crowded = True
        return slot, resident.length

    def extend(self, slot: int, n: int) -> None:
        """Record that the slot's next n tokens were computed; `n_free` must be at least n."""
        resident = self._residents[slot]
        end = resident.length + n
        if end > len(resident.cells):
            grown = np.empty(max(end, 2 * len(resident.cells), 256), np.int32)
            grown[: resident.length] = resident.cells[: resident.length]
            resident.cells = grown
        resident.cells[resident.length : end] = self._cells.take(n)
        resident.length = end

    def retract(self, slot: int, length: int) -> None:
        """Forget what a running slot computed beyond `length` tokens."""
        self._shorten(slot, length)

    def park(self, slot: int) -> None:
        """Keep a slot's state for reuse; its sequence has ended."""
        resident = self._residents[slot]
        resident.running = False
        self._n_running -= 1
        resident.tokens = resident.tokens[: resident.length].copy()
        self._touch(slot)
        self._crowded = True
        self.shelf.forget_covered(resident.namespace, resident.tokens)
        if resident.length == 0 or self._is_held_elsewhere(slot):
            self.drop(slot)
        else:
            self._drop_shorter_than(slot)

    def drop(self, slot: int) -> None:
        """Forget a slot's state."""
        self._shorten(slot, 0)
        self._n_running -= self._residents.pop(slot).running

    def forget_lost(self) -> None:
        """Forget parked states that the backend has let go of."""
        for slot in self._parked():
            if self._backend.length(slot) < self._residents[slot].length:
                self.drop(slot)

    def reset(self) -> None:
        """Forget every state, whatever the books say of it."""
        for slot in range(self._caps.n_resident):
            self._backend.trim(slot, 0)
        self._residents.clear()
        self.shelf.clear()
        self._n_running = 0
        self._cells = Cells(self._caps.n_cells)

    def resync(self, slot: int) -> None:
        """After a failed decode: keep what the backend kept."""
        kept = self._backend.length(slot)
        resident = self._residents[slot]
        if kept > resident.length:
            self._backend.trim(slot, resident.length)
        elif kept < resident.length:
            self._shorten(slot, kept)

    def make_room(self, n: int) -> bool:
        """Put parked states aside, least recently used first, until n cells are free."""
        while self._cells.n_free < n:
            parked = self._parked()
            if not parked:
                return False
            self.n_evicted += 1
            self._put_aside(self._oldest(parked))
        return True

    def relieve(self) -> None:
        """Put parked states aside that would slow down those that run, where they share cells."""
        caps = self._caps
        if not (self._crowded and self._n_running and caps.saves_states and caps.shares_cells):
            return
        self._crowded = False
        parked = self._parked()
        while parked and sum(map(self._n_own_cells, parked)) > _PARKED_CELLS:
            oldest = self._oldest(parked)
            self._put_aside(oldest)
            parked.remove(oldest)

    def _parked(self) -> list[int]:
        return [slot for slot, resident in self._residents.items() if not resident.running]

    def _n_own_cells(self, slot: int) -> int:
        resident = self._residents[slot]
        return self._cells.n_unshared(resident.cells[: resident.length])

    def _put_aside(self, slot: int) -> None:
        self._shelve(slot)
        self.drop(slot)

    def _shelve(self, slot: int) -> None:
        resident = self._residents[slot]
        tokens = resident.tokens[: resident.length]
        if self._caps.saves_states and not self.shelf.covers(resident.namespace, tokens):
            state = self._backend.save_state(slot)
            self.shelf.put(Shelved(resident.namespace, tokens.copy(), state))

    def _restore(self, namespace: str, tokens: IntArray, *, beyond: int) -> tuple[int, int] | None:
        """Bring back the shelved state with the longest prefix, if it has much more than `beyond`.

        Returns:
            Its slot, parked, and the prefix's length; None where there is nothing to gain.
        """
        shelved, length = self.shelf.match(namespace, tokens)
        if shelved is None or length < beyond + _WORTH_RESTORING:
            return None
        slot = self._vacate(-1, 0)
        n = len(shelved.tokens)
        if not (self.make_room(n) and self._backend.load_state(slot, shelved.state)):
            return None
        self._residents[slot] = Resident(
            namespace, shelved.tokens, self._cells.take(n), length=n, running=False
        )
        self.n_restored += 1
        return slot, length

    def _is_running(self, slot: int) -> bool:
        return slot in self._residents and self._residents[slot].running

    def _vacate(self, source: int, length: int) -> int:
        """A decodable slot without a state, or `source` itself to go on in from `length` on."""
        decodable = range(self._caps.n_slots)
        if source in decodable and self._can_go_on_in(source, length):
            return source
        empty = [slot for slot in decodable if slot not in self._residents]
        if empty:
            return empty[0]
        parked = [slot for slot in decodable if not self._residents[slot].running]
        if source in parked and (len(parked) == 1 or not self._caps.shares_cells):
            return source
        victim = self._oldest(slot for slot in parked if slot != source)
        self._save(victim, keep=source)
        self.drop(victim)
        return victim

    def _can_go_on_in(self, slot: int, length: int) -> bool:
        """Whether a copy would cost more than is lost when a parked state is cut and grown."""
        if self._caps.shares_cells or self._is_running(slot):
            return False
        n_lost = self._residents[slot].length - length
        return n_lost == 0 if self._caps.copies else n_lost <= length

    def _save(self, slot: int, *, keep: int) -> None:
        """Keep a slot's state on the shelf or in a parking slot, where there is room."""
        if self._caps.saves_states:
            self._shelve(slot)
            return
        if not self._caps.copies:
            return
        resident = self._residents[slot]
        parking = range(self._caps.n_slots, self._caps.n_resident)
        target = next((other for other in parking if other not in self._residents), None)
        if not self._caps.shares_cells and self.n_free < resident.length:
            return
        if target is None:
            evictable = [other for other in parking if other != keep]
            if not evictable:
                return
            target = self._oldest(evictable)
            self.n_evicted += 1
            self.drop(target)
        self._residents[target] = Resident(
            resident.namespace, resident.tokens, _NO_TOKENS, running=False, used=resident.used
        )
        self._copy(slot, target, resident.length)

    def _has_room_for_copy(self, source: int, length: int) -> bool:
        if self._caps.shares_cells:
            return True
        # Making room may take the source itself.
        return self.make_room(length) and source in self._residents

    def _oldest(self, slots: Iterable[int]) -> int:
        return min(slots, key=lambda slot: self._residents[slot].used)

    def _copy(self, source: int, target: int, length: int) -> None:
        cells = self._residents[source].cells[:length]
        copied = self._residents[target]
        if self._caps.shares_cells:
            self._cells.share(cells)
            copied.cells = cells.copy()
        else:
            copied.cells = self._cells.take(length)
        copied.length = length
        self._backend.copy(source, target, length)

    def _shorten(self, slot: int, length: int) -> None:
        resident = self._residents[slot]
        if length < resident.length:
            self._cells.release(resident.cells[length : resident.length])
            resident.length = length
            self._backend.trim(slot, length)

    def _touch(self, slot: int) -> None:
        self._uses += 1
        self._residents[slot].used = self._uses

    def _is_held_elsewhere(self, slot: int) -> bool:
        mine = self._residents[slot]
        return any(
            other is not mine
            and other.namespace == mine.namespace
            and other.length >= mine.length
            and common_prefix(other.tokens[: other.length], mine.tokens) == mine.length
            for other in self._residents.values()
        )

    def _drop_shorter_than(self, slot: int) -> None:
        mine = self._residents[slot]
        covered = [
            other
            for other, r in self._residents.items()
            if other != slot
            and not r.running
            and r.namespace == mine.namespace
            and r.length <= mine.length
            and common_prefix(r.tokens, mine.tokens) == r.length
        ]
        for other in covered:
            self.drop(other)
