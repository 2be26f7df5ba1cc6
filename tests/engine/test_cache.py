"""The books of slots and cells, held against the backend that they describe."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qwenkit.backends.base import IntArray, Rows
from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.engine.cache import SlotCache
from qwenkit.engine.prefix import common_prefix


def array(tokens: Iterable[int]) -> IntArray:
    return np.array(list(tokens), np.int32)


def shared_head(a: list[int], b: list[int]) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


class Machine:
    """A cache and its backend, moved together as the engine moves them."""

    def __init__(self, *, n_cells: int = 1000, shelf_bytes: int = 0, **options: int | bool) -> None:
        self.backend = ScriptedBackend(lambda _: 0, n_ctx=40, n_cells=n_cells, **options)  # type: ignore[arg-type]
        self.cache = SlotCache(self.backend, shelf_bytes=shelf_bytes)

    def begin(self, tokens: Iterable[int], *, namespace: str = "") -> tuple[int, int]:
        """Start a sequence, reusing all but its last token; returns its slot and what it holds."""
        whole = array(tokens)
        return self.cache.start(namespace, whole, len(whole) - 1)

    def compute(self, slot: int, n: int | None = None) -> None:
        """Compute the next n tokens of a slot, or all of them."""
        resident = self.cache._residents[slot]
        n = len(resident.tokens) - resident.length if n is None else n
        assert self.cache.make_room(n)
        self.decode(slot, n)
        self.cache.extend(slot, n)

    def decode(self, slot: int, n: int) -> None:
        resident = self.cache._residents[slot]
        first, end = resident.length, resident.length + n
        self.backend.decode(
            Rows(
                resident.tokens[first:end],
                np.arange(first, end, dtype=np.int32),
                np.full(n, slot, np.int32),
                np.zeros(n, np.int8),
            )
        )

    def finish(self, tokens: Iterable[int], *, namespace: str = "") -> int:
        """Run a sequence from start to parking."""
        slot, _ = self.begin(tokens, namespace=namespace)
        self.compute(slot)
        self.cache.park(slot)
        return slot

    def held(self) -> list[list[int]]:
        """What every slot of the backend holds, without the empty ones."""
        slots = range(self.backend.capabilities.n_resident)
        return sorted(tokens for tokens in map(list, map(self.backend.tokens, slots)) if tokens)

    def check(self) -> None:
        """The books agree with the backend."""
        residents = self.cache._residents
        for slot in range(self.backend.capabilities.n_resident):
            held = self.backend.tokens(slot)
            recorded = residents[slot].tokens[: residents[slot].length] if slot in residents else ()
            assert list(recorded) == held
        assert self.cache.n_used == self.backend.n_cells_used
        assert self.cache.n_free + self.cache.n_used == self.backend.capabilities.n_cells
        assert self.cache.n_parked == sum(not r.running for r in residents.values())
        by_running = {c for r in residents.values() if r.running for c in r.cells[: r.length]}
        n_cells = self.backend.capabilities.n_cells
        assert self.cache.n_available() == n_cells - len(by_running)


TOKENS = st.builds(
    lambda n_ones, rest: [1] * n_ones + rest,
    st.sampled_from([0, 0, 0, 18, 24]),  # long ones are worth bringing back from the shelf
    st.lists(st.sampled_from([1, 2]), min_size=1, max_size=12),
)
NAMESPACES = st.sampled_from(["", "adapter"])


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Whatever happens in whatever order, the books are right."""

    @initialize(
        copying=st.sampled_from(["shares", "copies", "neither"]),
        n_slots=st.integers(1, 3),
        n_parking=st.integers(0, 3),
        n_cells=st.integers(40, 60),
        shelf_bytes=st.sampled_from([0, 400]),
    )
    def load(
        self, copying: str, n_slots: int, n_parking: int, n_cells: int, shelf_bytes: int
    ) -> None:
        self.machine = Machine(
            n_slots=n_slots,
            n_resident=n_slots + n_parking,
            shares_cells=copying == "shares",
            copies=copying != "neither",
            n_cells=n_cells,
            shelf_bytes=shelf_bytes,
            saves_states=shelf_bytes > 0,
        )
        self.cache = self.machine.cache

    def running(self) -> list[int]:
        return [slot for slot, resident in self.cache._residents.items() if resident.running]

    def pick_running(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.running())))

    @precondition(lambda self: self.cache.can_start())
    @rule(tokens=TOKENS, namespace=NAMESPACES, cold=st.booleans())
    def start(self, tokens: list[int], namespace: str, cold: bool) -> None:
        n_reusable = 0 if cold else len(tokens) - 1
        caps = self.machine.backend.capabilities
        longest = max(
            (
                shared_head(list(r.tokens[: r.length]), tokens[:n_reusable])
                for r in self.cache._residents.values()
                if r.namespace == namespace and (caps.copies or not r.running)
            ),
            default=0,
        )
        _, matched = self.cache.match(namespace, array(tokens[:n_reusable]))
        assert matched == longest
        slot, length = self.cache.start(namespace, array(tokens), n_reusable)
        assert self.machine.backend.tokens(slot) == tokens[:length]
        if caps.saves_states:  # the shelf gives more, and may lose what it made way for
            return
        if caps.shares_cells:
            assert length == longest
        assert length <= longest

    @precondition(lambda self: self.running())
    @rule(data=st.data(), n=st.integers(1, 5))
    def compute(self, data: st.DataObject, n: int) -> None:
        slot = self.pick_running(data)
        resident = self.cache._residents[slot]
        n = min(n, len(resident.tokens) - resident.length)
        if n and self.cache.make_room(n):
            self.machine.compute(slot, n)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.cache.park(self.pick_running(data))

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        self.cache.drop(self.pick_running(data))

    @precondition(lambda self: self.running())
    @rule(data=st.data(), n=st.integers(1, 4))
    def abort_halfway(self, data: st.DataObject, n: int) -> None:
        slot = self.pick_running(data)
        resident = self.cache._residents[slot]
        n = min(n, len(resident.tokens) - resident.length)
        if n and self.cache.make_room(n):
            self.machine.decode(slot, n)
        self.cache.resync(slot)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), n=st.integers(0, 4))
    def lose_the_end(self, data: st.DataObject, n: int) -> None:
        slot = self.pick_running(data)
        self.machine.backend.trim(slot, min(n, self.machine.backend.length(slot)))
        self.cache.resync(slot)

    @rule(n=st.integers(0, 60))
    def make_room(self, n: int) -> None:
        possible = n <= self.cache.n_available()
        assert self.cache.make_room(n) == possible
        assert not possible or self.cache.n_free >= n

    @rule()
    def reset(self) -> None:
        self.cache.reset()
        assert self.machine.backend.n_cells_used == 0

    @invariant()
    def the_books_are_right(self) -> None:
        if hasattr(self, "machine"):
            self.machine.check()


AnyOrderOfEvents.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None
)
test_the_books_agree_with_the_backend_in_any_order_of_events = AnyOrderOfEvents.TestCase


def test_the_longest_prefix_is_taken_whichever_slot_holds_it() -> None:
    machine = Machine(n_slots=4)
    machine.finish([1, 2, 3, 9])
    machine.finish([1, 2, 3, 4, 5, 9])
    machine.finish([1, 2, 8])
    assert machine.begin([1, 2, 3, 4, 5, 6])[1] == 5
    machine.check()


def test_a_running_sequence_s_prefix_is_shared_too() -> None:
    machine = Machine(n_slots=2)
    first, _ = machine.begin([1, 2, 3, 4])
    machine.compute(first, 3)
    assert machine.begin([1, 2, 3, 5]) == (1, 3)
    assert machine.backend.n_cells_used == 3


def test_a_prefix_of_another_namespace_is_never_taken() -> None:
    machine = Machine()
    machine.finish([1, 2, 3], namespace="a")
    assert machine.begin([1, 2, 3], namespace="b")[1] == 0


def test_the_last_token_is_computed_even_where_the_whole_prompt_is_held() -> None:
    machine = Machine()
    machine.finish([1, 2, 3])
    assert machine.begin([1, 2, 3])[1] == 2


def test_the_state_used_longest_ago_makes_room_first() -> None:
    machine = Machine(n_slots=4, n_cells=9)
    for tokens in ([1, 1, 1], [2, 2, 2], [3, 3, 3]):
        machine.finish(tokens)
    machine.cache.park(machine.begin([1, 1, 1])[0])  # used again
    assert machine.cache.make_room(3)
    assert machine.held() == [[1, 1, 1], [3, 3, 3]]
    assert machine.cache.n_evicted == 1


def test_a_state_in_the_way_moves_to_a_parking_slot() -> None:
    machine = Machine(n_slots=1, n_resident=3)
    for tokens in ([1, 1], [2, 2], [3, 3]):
        machine.finish(tokens)
    assert machine.held() == [[1, 1], [2, 2], [3, 3]]
    machine.check()


def test_a_full_parking_area_loses_what_was_used_longest_ago() -> None:
    machine = Machine(n_slots=1, n_resident=3)
    for tokens in ([1, 1], [2, 2], [3, 3], [4, 4]):
        machine.finish(tokens)
    assert machine.held() == [[2, 2], [3, 3], [4, 4]]
    assert machine.cache.n_evicted == 1


def test_the_only_parking_slot_is_not_taken_from_the_prefix_that_is_wanted() -> None:
    machine = Machine(n_slots=1, n_resident=2)
    machine.finish([1, 1, 1, 1])
    machine.finish([2, 2])
    assert machine.begin([1, 1, 1, 5]) == (0, 3)
    machine.check()


def test_what_a_longer_state_covers_is_not_kept_twice() -> None:
    machine = Machine(n_slots=4)
    machine.finish([1, 2])
    machine.finish([1, 2, 3, 4])
    machine.finish([1, 2, 3])
    assert machine.held() == [[1, 2, 3, 4]]


def test_branches_of_one_prefix_hold_its_cells_once() -> None:
    machine = Machine(n_slots=4)
    machine.finish([1, 2, 3, 4, 5, 6])
    machine.finish([1, 2, 3, 4, 8, 9])
    assert machine.backend.n_cells_used == 8
    machine.check()


def test_a_state_without_tokens_is_not_kept() -> None:
    machine = Machine()
    machine.cache.park(machine.begin([1, 2])[0])
    assert machine.cache.n_parked == 0


def test_no_sequence_starts_while_every_slot_runs() -> None:
    machine = Machine(n_slots=2)
    slot, _ = machine.begin([1])
    machine.begin([2])
    assert not machine.cache.can_start()
    machine.cache.park(slot)
    assert machine.cache.can_start()


def test_copies_that_take_cells_are_left_out_where_there_is_no_room_for_them() -> None:
    machine = Machine(n_slots=2, n_resident=4, shares_cells=False, n_cells=40)
    running, _ = machine.begin([1] * 24)
    machine.compute(running, 20)
    assert machine.begin([1] * 24) == (1, 20)
    machine.cache.drop(1)
    machine.compute(running)
    assert machine.begin([1] * 24) == (1, 0)
    machine.check()


def test_a_state_in_the_way_is_not_moved_where_a_copy_would_not_fit() -> None:
    machine = Machine(n_slots=1, n_resident=2, shares_cells=False, n_cells=40)
    machine.finish([1] * 24)
    machine.finish([2] * 24)
    assert machine.held() == [[2] * 24]
    machine.check()


def test_a_parked_state_is_gone_on_in_where_nothing_can_be_copied() -> None:
    machine = Machine(n_slots=3, n_resident=5, shares_cells=False, copies=False)
    first = machine.finish([1] * 10)
    assert machine.begin([*[1] * 10, 2, 2]) == (first, 10)
    machine.check()


def test_a_running_state_is_left_alone_where_nothing_can_be_copied() -> None:
    machine = Machine(n_slots=2, shares_cells=False, copies=False)
    running, _ = machine.begin([1] * 10)
    machine.compute(running)
    slot, length = machine.begin([*[1] * 10, 2])
    assert (slot != running, length) == (True, 0)
    assert machine.backend.tokens(running) == [1] * 10
    machine.check()


def test_a_long_state_is_not_cut_down_for_a_short_beginning_while_slots_are_empty() -> None:
    machine = Machine(n_slots=2, shares_cells=False, copies=False)
    first = machine.finish([1, *[2] * 20])
    slot, length = machine.begin([1, 3, 4])
    assert (slot != first, length) == (True, 0)
    machine.compute(slot)
    machine.cache.park(slot)
    third, length = machine.begin([1, 2, 5])
    assert (third, length) == (first, 2)
    machine.check()


def test_a_whole_state_that_is_gone_on_from_is_not_copied_where_copies_take_cells() -> None:
    machine = Machine(n_slots=3, shares_cells=False)
    first = machine.finish([1] * 10)
    assert machine.begin([*[1] * 10, 2, 2]) == (first, 10)
    machine.cache.park(first)
    second, length = machine.begin([*[1] * 5, 3])
    assert (second != first, length) == (True, 5)
    machine.check()


def test_a_sequence_starts_where_a_shelved_state_finds_no_room_after_all() -> None:
    machine = Machine(n_slots=2, n_cells=60, saves_states=True, shelf_bytes=10_000)
    machine.finish([1] * 30)
    running, _ = machine.begin([2] * 31)
    machine.compute(running)
    short = machine.finish([1, 1, 1, 1, 3])
    assert machine.begin([*[1] * 30, 5]) == (short, 0)
    machine.check()


def test_after_a_failed_decode_the_slot_holds_what_was_known_before() -> None:
    machine = Machine()
    slot, _ = machine.begin([1, 2, 3, 4])
    machine.compute(slot, 2)
    machine.decode(slot, 2)
    machine.cache.resync(slot)
    assert machine.backend.tokens(slot) == [1, 2]
    machine.backend.trim(slot, 1)
    machine.cache.resync(slot)
    machine.check()


def test_a_reset_frees_even_what_the_books_do_not_know_of() -> None:
    machine = Machine()
    slot, _ = machine.begin([1, 2, 3])
    machine.decode(slot, 3)
    machine.cache.reset()
    assert machine.backend.n_cells_used == 0
    machine.check()


@pytest.mark.parametrize("seed", range(20))
def test_common_prefix_is_what_counting_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 2, rng.integers(0, 9)).astype(np.int32) for _ in range(2))
    assert common_prefix(a, b) == shared_head(list(a), list(b))
