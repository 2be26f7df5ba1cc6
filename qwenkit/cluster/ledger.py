"""Keeps what has been changed since the start, and who may change something now. One for all.

A replica reads it when it starts and whenever its health is checked, so that one that was away
during a change catches up. If it dies, Ray begins it anew, and it learns from the replicas what
they know. Knows no requests. As an actor of Ray's it is found by `ledger_of`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from qwenkit.cluster.changes import Changes

NAMESPACE = "qwenkit"
SEEN_FOR_S = 20.0
"""Seconds for which a replica counts as there after its last sign of life."""


class Ledger:
    """Changes, replicas, and a turn.

    Args:
        clock: Tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changes = Changes()
        self._seen: dict[str, float] = {}
        self._turn: tuple[str, float] | None = None

    def seen(self, replica: str, known: Changes) -> Changes:
        """A replica is there; returns what it should have taken on.

        Args:
            replica: Its name.
            known: What it has taken on.
        """
        self._seen[replica] = self._clock()
        if known.revision > self._changes.revision:
            self._changes = known
        return self._changes

    def left(self, replica: str) -> None:
        """A replica is ending."""
        self._seen.pop(replica, None)

    def replicas(self) -> list[str]:
        """Those that have been seen lately."""
        oldest = self._clock() - SEEN_FOR_S
        return sorted(name for name, at in self._seen.items() if at >= oldest)

    def begin(self, who: str, at_most_s: float) -> bool:
        """Take the turn to change something, for some seconds at most; False where it is taken."""
        now = self._clock()
        if self._turn is not None and self._turn[0] != who and self._turn[1] > now:
            return False
        self._turn = (who, now + at_most_s)
        return True

    def commit(self, changes: Changes) -> None:
        """A change was made by every replica that could be reached."""
        self._changes = self._changes.then(changes)

    def end(self, who: str) -> None:
        """Give the turn back."""
        if self._turn is not None and self._turn[0] == who:
            self._turn = None


def ledger_of(app: str) -> Any:
    """The ledger of an application, made where it is not there yet.

    Args:
        app: The name under which Ray Serve runs it.
    """
    import ray

    actor = ray.remote(num_cpus=0)(Ledger)
    return actor.options(
        name=app,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=-1,
    ).remote()
