"""Ray Serve's request router that asks `choice`. Knows Serve's replicas, loads and statistics.

Serve makes one in every process that holds a handle; each remembers what went through it. Serve
sends this module's code to its processes, not its name, so nothing is shared between them.
"""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from qwenkit.cluster.ask import Ask, Target
from qwenkit.cluster.choice import Candidate, Memory, home, order

NOBODY = Target()


class AffinityRouter(RequestRouter):  # type: ignore[misc]
    """Sends a request to the replica that has its prompt's beginning or its adapter."""

    def initialize_state(self, **_: Any) -> None:
        """Begin to remember."""
        self._memory = Memory()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Replicas in the order in which they should be tried."""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        by_name = {each.replica_id.unique_id: each for each in candidate_replicas}
        target = _target(pending_request)
        if target.only in by_name:
            return [[by_name[target.only]]]
        allowed = by_name.keys() - target.avoid or by_name.keys()
        candidates = [self._candidate(by_name[name]) for name in sorted(allowed)]
        if target.home:
            return [[by_name[home(candidates)]]]
        names = order(target.affinity, candidates, self._memory, target.prefers)
        return [[by_name[name]] for name in names]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """Remember which prompt went where."""
        super().on_request_routed(pending_request, replica_id, result)
        affinity = _target(pending_request).affinity
        if affinity is not None:
            self._memory.learn(affinity, replica_id.unique_id)

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Forget what it had computed."""
        super().on_replica_actor_died(replica_id)
        self._memory.forget(replica_id.unique_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Forget those that are gone."""
        before = {each.unique_id for each in self._replica_id_set}
        super().update_replicas(replicas)
        for name in before - {each.unique_id for each in self._replica_id_set}:
            self._memory.forget(name)

    def _candidate(self, replica: RunningReplica) -> Candidate:
        known = replica.routing_stats or {}
        return Candidate(
            name=replica.replica_id.unique_id,
            load=self.replica_queue_len_cache.get(replica.replica_id) or 0,
            models=frozenset(known.get("models", ())),
            adapters=frozenset(known.get("adapters", ())),
            is_home=bool(known.get("is_home")),
        )


def _target(pending_request: PendingRequest | None) -> Target:
    if pending_request is None or not pending_request.args:
        return NOBODY
    match pending_request.args[0]:
        case Ask(target=target) | (Target() as target):
            return target
        case _:
            return NOBODY
