"""What is kept of changes, and whose turn it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qwenkit.cluster.changes import Changes, Served
from qwenkit.cluster.ledger import SEEN_FOR_S, Ledger
from qwenkit.server.loader import LoadPlan
from qwenkit.settings import Settings

PLAN = LoadPlan(spec=Settings.load().model_spec())
OTHER = replace(PLAN, name="other")
A, B = Path("/a"), Path("/b")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_replica_that_comes_later_is_told_of_all_changes_as_one() -> None:
    ledger = Ledger()
    ledger.commit(Changes.between(Served(PLAN, {}), Served(PLAN, {"x": A})))
    ledger.commit(Changes.between(Served(PLAN, {"x": A}), Served(OTHER, {"x": A})))
    ledger.commit(Changes.between(Served(OTHER, {"x": A}), Served(OTHER, {"x": B, "y": A})))
    ledger.commit(Changes.between(Served(OTHER, {"x": B, "y": A}), Served(OTHER, {"y": A})))
    told = ledger.seen("late", Changes())
    assert told == Changes(revision=4, plan=OTHER, loaded={"y": A}, unloaded=frozenset({"x"}))


def test_an_adapter_that_comes_back_is_no_longer_taken_away() -> None:
    gone = Changes(unloaded=frozenset({"x"}))
    back = Changes(loaded={"x": A})
    assert Changes().then(gone).then(back) == Changes(revision=2, loaded={"x": A})


def test_a_ledger_that_begins_anew_learns_from_the_replicas_what_was_changed() -> None:
    known = Changes(revision=3, plan=OTHER)
    ledger = Ledger()
    assert ledger.seen("a", Changes()) == Changes()
    assert ledger.seen("b", known) == known
    assert ledger.seen("a", Changes()) == known
    ledger.commit(Changes(loaded={"x": A}))
    assert ledger.seen("b", known) == Changes(revision=4, plan=OTHER, loaded={"x": A})


def test_a_replica_that_shows_no_life_is_left_out_and_comes_back_when_it_does() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.seen("a", Changes())
    clock.now += SEEN_FOR_S / 2
    ledger.seen("b", Changes())
    clock.now += SEEN_FOR_S / 2 + 1
    assert ledger.replicas() == ["b"]
    ledger.seen("a", Changes())
    ledger.left("b")
    assert ledger.replicas() == ["a"]


def test_one_changes_something_at_a_time_and_a_turn_that_never_ends_runs_out() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    assert ledger.begin("one", 10)
    assert not ledger.begin("other", 10)
    ledger.end("other")
    assert not ledger.begin("other", 10)
    clock.now += 11
    assert ledger.begin("other", 10)
    ledger.end("other")
    assert ledger.begin("one", 10)
