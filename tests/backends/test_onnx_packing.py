"""Rows that are neighbours, whatever comes and goes."""

from __future__ import annotations

import random

import pytest

from qwenkit.backends.onnx.packing import Packing, Span


def test_neighbours_run_together_and_nothing_moves() -> None:
    packing = Packing(6, n_ctx=100, can_move=True)
    assert packing.plan([2, 3, 4], [9] * 6) == ([], [Span(2, 3)])


def test_an_idle_row_is_computed_along_until_moving_it_would_have_been_cheaper() -> None:
    packing = Packing(4, n_ctx=10_000, can_move=True)
    lengths = [500, 500, 500, 0]
    n_steps = 0
    while packing.plan([0, 2], lengths)[0] == []:
        assert packing.plan([0, 2], lengths)[1] == [Span(0, 3)]
        n_steps += 1
        assert n_steps < 10
    assert n_steps > 0
    rows = sorted(packing.row_of(slot) for slot in (0, 2))
    assert rows[1] == rows[0] + 1


def test_an_empty_row_gives_way_at_once() -> None:
    packing = Packing(4, n_ctx=100, can_move=True)
    swaps, spans = packing.plan([0, 2], [5, 0, 5, 0])
    assert len(swaps) == 1
    assert [span.n for span in spans] == [2]


def test_far_rows_run_apart_where_nothing_can_move() -> None:
    packing = Packing(8, n_ctx=100, can_move=False)
    for _ in range(50):
        assert packing.plan([0, 2, 7], [50] * 8) == ([], [Span(0, 3), Span(7, 1)])


def test_a_full_row_is_never_idle() -> None:
    packing = Packing(3, n_ctx=100, can_move=False)
    assert packing.plan([0, 2], [5, 99, 5]) == ([], [Span(0, 3)])
    assert packing.plan([0, 2], [5, 100, 5]) == ([], [Span(0, 1), Span(2, 1)])


@pytest.mark.parametrize("seed", range(20))
def test_two_groups_that_take_turns_settle(seed: int) -> None:
    draw = random.Random(seed)
    slots = list(range(8))
    draw.shuffle(slots)
    groups = [slots[:3], slots[3:6]]
    packing = Packing(8, n_ctx=10_000, can_move=True)
    lengths = [draw.randrange(1, 1000) for _ in slots]
    n_moves = [len(packing.plan(groups[step % 2], lengths)[0]) for step in range(400)]
    assert sum(n_moves[200:]) == 0


@pytest.mark.parametrize("seed", range(50))
def test_every_slot_keeps_a_row_of_its_own_and_what_it_holds(seed: int) -> None:
    draw = random.Random(seed)
    n = draw.randrange(1, 9)
    packing = Packing(n, n_ctx=64, can_move=True)
    lengths = [draw.randrange(0, 65) for _ in range(n)]
    held = list(range(n))  # which slot's numbers lie in each row
    for _ in range(40):
        lengths[draw.randrange(n)] = draw.randrange(0, 65)
        active = draw.sample(range(n), draw.randrange(1, n + 1))
        swaps, spans = packing.plan(active, lengths)
        for swap in swaps:
            held[swap.a], held[swap.b] = held[swap.b], held[swap.a]
        assert [held[packing.row_of(slot)] for slot in range(n)] == list(range(n))
        rows = [row for span in spans for row in span.rows]
        assert len(rows) == len(set(rows))
        assert {packing.row_of(slot) for slot in active} <= set(rows)
        idle = {packing.slot_at(row) for row in rows} - set(active)
        assert all(lengths[slot] < 64 for slot in idle)
