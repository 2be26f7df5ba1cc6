"""The application that Ray Serve runs: doors before replicas. Knows Serve's words for both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenkit.cluster.calls import LedgerCalls, ReplicaCalls
from qwenkit.cluster.door import Door, DoorPlan
from qwenkit.cluster.fleet import Fleet
from qwenkit.cluster.ledger import ledger_of
from qwenkit.cluster.plan import FleetPlan, WriteLog
from qwenkit.cluster.replica import Replica
from qwenkit.cluster.router import AffinityRouter

MAX_ONGOING = 1000
"""Requests that Serve hands to a replica before it keeps them itself. The engine's own queue is
shorter, and says so with 503."""
STATS_PERIOD_S = 1.0
HEALTH_PERIOD_S = 3.0
HEALTH_TIMEOUT_S = 30.0
DRAIN_SLACK_S = 10.0
DRAIN_PERIOD_S = 1.0


class DoorReplica:
    """A door in an actor of Ray Serve's.

    Args:
        plan: What it goes by.
        app_name: The name under which Ray Serve runs the application.
        replicas: Ray Serve's handle to the replicas.
        log: Has it write its log.
    """

    def __init__(self, plan: DoorPlan, app_name: str, replicas: Any, log: WriteLog) -> None:
        self._log = log(sys.stderr)
        self._log.__enter__()
        fleet = Fleet(ReplicaCalls(replicas), LedgerCalls(ledger_of(app_name)))
        self._door = Door(plan, fleet)

    async def __call__(self, request: Request) -> Response:  # noqa: ARG002
        """What answers a request when it is sent."""
        return _Answer(self._door)


class _Answer(Response):
    """A response that an ASGI application gives."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have it give its answer."""
        await self._app(scope, receive, send)


def build(
    make_app: Callable[[], FastAPI],
    door: DoorPlan,
    fleet: FleetPlan,
    *,
    log: WriteLog,
    app_name: str,
    folder: str,
) -> Any:
    """The application, bound.

    Args:
        make_app: Makes the server of one replica; it is sent to the replicas.
        door: What the doors go by.
        fleet: How many replicas, and what each may use.
        log: Has a process write its log.
        app_name: The name under which Ray Serve is to run it.
        folder: Working folder of the replicas.
    """
    replicas = serve.deployment(
        Replica,
        name="replica",
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options={"num_cpus": fleet.cpus, "num_gpus": fleet.gpus},
        request_router_config=RequestRouterConfig(
            request_router_class=AffinityRouter,
            request_routing_stats_period_s=STATS_PERIOD_S,
        ),
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=DRAIN_PERIOD_S,
        graceful_shutdown_timeout_s=fleet.drain_s + DRAIN_SLACK_S,
        **_size(fleet),
    ).bind(make_app, app_name, folder, log)
    return serve.deployment(
        DoorReplica,
        name="door",
        num_replicas=fleet.doors,
        max_ongoing_requests=MAX_ONGOING * fleet.most,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_wait_loop_s=DRAIN_PERIOD_S,
        graceful_shutdown_timeout_s=fleet.drain_s + DRAIN_SLACK_S,
    ).bind(door, app_name, replicas, log)


def _size(fleet: FleetPlan) -> dict[str, Any]:
    if fleet.most == fleet.replicas:
        return {"num_replicas": fleet.replicas}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=fleet.replicas,
            max_replicas=fleet.most,
            target_ongoing_requests=fleet.target_requests,
            upscale_delay_s=fleet.upscale_s,
            downscale_delay_s=fleet.downscale_s,
        )
    }
