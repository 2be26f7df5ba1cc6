"""Changes that every replica makes, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenkit.cluster.ask import Ask
from qwenkit.cluster.changes import Changes, Served
from qwenkit.cluster.lost import ReplicaLost
from qwenkit.server.errors import ReloadRunning
from qwenkit.server.loader import LoadPlan
from qwenkit.settings import Settings

pytestmark = pytest.mark.anyio
RELOAD = Ask(method="POST", path="/admin/reload", raw_path=b"/admin/reload", body=b"{}")
PLAN = LoadPlan(spec=Settings().model_spec())
BEFORE = Served(PLAN, {})
AFTER = Served(replace(PLAN, name="next"), {"poet": Path("/poet")})


async def test_a_change_is_made_by_all_and_kept_for_those_that_come(
    fakes: Callable[..., Any],
) -> None:
    made = fakes(a={"becomes": AFTER}, b={"becomes": AFTER, "content": b"done"})
    head, content = await made.fleet.roll(RELOAD)
    assert (head.status, content) == (200, b"done")
    assert all(each.served == AFTER for each in made.replicas.values())
    told = made.ledger.own.seen("late", Changes())
    assert (told.revision, told.plan, told.loaded) == (1, AFTER.plan, AFTER.adapters)


async def test_a_change_that_one_refuses_is_undone_at_those_that_had_made_it(
    fakes: Callable[..., Any],
) -> None:
    made = fakes(a={"becomes": AFTER}, b={"status": 507, "content": b"no room"}, c={})
    head, content = await made.fleet.roll(RELOAD)
    assert (head.status, content) == (507, b"no room")
    assert made.replicas["a"].undone == 1
    assert made.replicas["a"].served == BEFORE
    assert not made.replicas["c"].asked
    assert made.ledger.own.seen("late", Changes()).revision == 0


async def test_a_replica_that_dies_meanwhile_holds_up_nothing(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"dies": "accepted"}, b={"becomes": AFTER})
    head, _ = await made.fleet.roll(RELOAD)
    assert head.status == 200
    assert made.ledger.own.seen("late", Changes()).plan == AFTER.plan


async def test_without_a_replica_a_change_is_refused(fakes: Callable[..., Any]) -> None:
    with pytest.raises(ReplicaLost):
        await fakes(a={"dies": "before"}).fleet.roll(RELOAD)


async def test_two_changes_do_not_run_at_once(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"becomes": AFTER})
    assert made.ledger.own.begin("another", 60)
    with pytest.raises(ReloadRunning):
        await made.fleet.roll(RELOAD)
    assert made.replicas["a"].served == BEFORE
    made.ledger.own.end("another")
    await made.fleet.roll(RELOAD)
    assert made.ledger.own.begin("another", 60)


async def test_who_is_gone_is_left_out_when_all_are_asked(fakes: Callable[..., Any]) -> None:
    made = fakes(a={"dies": "head"}, b={"content": b"page"})
    found = await made.fleet.each(replace(RELOAD, method="GET", path="/metrics"))
    assert {name: content for name, (_, content) in found.items()} == {"b": b"page"}
