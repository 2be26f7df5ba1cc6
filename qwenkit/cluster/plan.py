"""How many replicas there are and what each may use. Plain values; no Ray."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TextIO, TypeAlias

from qwenkit.errors import InvalidSettings

WriteLog: TypeAlias = Callable[[TextIO], AbstractContextManager[None]]
"""Has a process write its log to a stream as long as the context is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """The replicas of a cluster.

    Args:
        replicas: How many there are, or at least.
        max_replicas: How many there may be when there is much to do; None never changes.
        target_requests: Requests that a replica should have at once; more or fewer change how many
            replicas there are.
        cpus: Cores of each.
        gpus: GPUs of each; a part of one lets several share it.
        upscale_s: Seconds for which there must be too much to do before replicas are added.
        downscale_s: Seconds for which there must be too little before some are ended.
        drain_s: Seconds that running answers get when a replica ends.
        doors: Doors before them.

    Raises:
        InvalidSettings: There are to be fewer at most than at least.
    """

    replicas: int = 2
    max_replicas: int | None = None
    target_requests: float = 8.0
    cpus: float = 1.0
    gpus: float = 0.0
    upscale_s: float = 10.0
    downscale_s: float = 300.0
    drain_s: float = 30.0
    doors: int = 1

    def __post_init__(self) -> None:
        if self.most < self.replicas:
            raise InvalidSettings(
                f"RAY_MAX_REPLICAS is {self.most}, fewer than RAY_REPLICAS, {self.replicas}",
                hint="leave RAY_MAX_REPLICAS empty to keep their number as it is",
            )

    @property
    def most(self) -> int:
        """Replicas that there may be at most."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    def check_room(self, cpus: float, gpus: float) -> None:
        """Refuse what could never start: Ray would wait for ever for more room.

        Args:
            cpus: Cores that there are for all replicas together.
            gpus: GPUs that there are for them.

        Raises:
            InvalidSettings: That is too little for the least of them.
        """
        wanted = (("CPUS", self.cpus, cpus), ("GPUS", self.gpus, gpus))
        for name, each, has in wanted:
            if self.replicas * each > has:
                raise InvalidSettings(
                    f"{self.replicas} replicas with RAY_REPLICA_{name} of {each:g} want more than"
                    f" the {has:g} of this machine",
                    hint=f"lower RAY_REPLICAS or RAY_REPLICA_{name}",
                )
