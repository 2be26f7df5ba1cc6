"""What Ray Serve is told of doors and replicas."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from qwenkit.cluster.door import DoorPlan
from qwenkit.cluster.plan import FleetPlan
from qwenkit.server.auth import KeyRing
from qwenkit.server.logs import written_to

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


def deployments(fleet: FleetPlan) -> dict[str, Any]:
    """What is to be deployed, by its name."""
    pytest.importorskip("ray")
    from ray.serve._private.build_app import build_app

    from qwenkit.cluster.application import build

    keys = KeyRing(users=[], admins=[])
    application = build(
        dict,  # type: ignore[arg-type]
        DoorPlan(keys=keys, max_body_bytes=1, client_timeout_s=1),
        fleet,
        log=partial(written_to, form="text", level="info"),
        app_name="x",
        folder=".",
    )
    return {each.name: each for each in build_app(application, name="x").deployments}


def test_the_number_of_replicas_follows_the_requests_that_each_has() -> None:
    fleet = FleetPlan(replicas=2, max_replicas=6, target_requests=5, upscale_s=7, downscale_s=70)
    found = deployments(fleet)["replica"]._deployment_config.autoscaling_config
    assert (found.min_replicas, found.max_replicas) == (2, 6)
    assert found.target_ongoing_requests == 5
    assert (found.upscale_delay_s, found.downscale_delay_s) == (7, 70)


def test_without_a_most_their_number_stays() -> None:
    found = deployments(FleetPlan(replicas=3, doors=2))
    assert found["replica"]._deployment_config.autoscaling_config is None
    assert found["replica"].num_replicas == 3
    assert found["door"].num_replicas == 2


def test_a_replica_has_its_cores_and_the_time_to_finish_and_its_router() -> None:
    replica = deployments(FleetPlan(cpus=1.5, gpus=0.5, drain_s=40))["replica"]
    from qwenkit.cluster.router import AffinityRouter

    config = replica._deployment_config
    assert replica.ray_actor_options == {"num_cpus": 1.5, "num_gpus": 0.5}
    assert config.graceful_shutdown_timeout_s > 40
    router = config.request_router_config.request_router_class
    assert router == f"{AffinityRouter.__module__}.{AffinityRouter.__name__}"
