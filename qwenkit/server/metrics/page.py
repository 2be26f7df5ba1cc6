"""Every measure of one server on one page, and the route that shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from qwenkit.engine.adapters import Adapter
from qwenkit.engine.observer import EngineSnapshot
from qwenkit.server.metrics.adapters import AdapterMeasures
from qwenkit.server.metrics.agent import AgentMeasures
from qwenkit.server.metrics.engine import EngineMeasures, EngineState
from qwenkit.server.metrics.feedback import FeedbackMeasures
from qwenkit.server.metrics.gpu import GpuState
from qwenkit.server.metrics.http import HttpMeasures
from qwenkit.server.metrics.mcp import McpMeasures
from qwenkit.server.metrics.models import ModelMeasures, Served
from qwenkit.server.metrics.process import ProcessState
from qwenkit.server.metrics.telemetry import TelemetryMeasures

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Everything measured since the start, in Prometheus' text format."""
    page: Metrics = request.app.state.serving.metrics
    await page.gpus.refresh()
    return Response(page.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})


class Metrics:
    """Measures one server.

    Args:
        snapshot: The engine's state now; None while there is no engine.
        served: What is served now.
        adapters: The adapters that are loaded now.

    Attributes:
        http: Of requests.
        engine: Of the engine; an `Observer` of it.
        adapters: Of LoRA adapters.
        models: Of the models that come and go.
        agent: Of the agent's runs.
        mcp: Of MCP's calls.
        feedback: Of what is recorded.
        telemetry: Of traces.
        gpus: Of the GPUs; to be refreshed before the page is rendered.
        registry: Has them all.
    """

    def __init__(
        self,
        snapshot: Callable[[], EngineSnapshot | None],
        served: Callable[[], Served],
        adapters: Callable[[], Sequence[Adapter]],
    ) -> None:
        # Its own registry: two servers in one process, as in tests, must not collide.
        self.registry = registry = CollectorRegistry()
        self.http = HttpMeasures(registry)
        self.models = ModelMeasures(registry, served)
        self.adapters = AdapterMeasures(registry, adapters)
        self.engine = EngineMeasures(registry, on_adapter=self.adapters.on_tokens)
        registry.register(EngineState(snapshot))
        self.agent = AgentMeasures(registry)
        self.mcp = McpMeasures(registry)
        self.feedback = FeedbackMeasures(registry)
        self.telemetry = TelemetryMeasures(registry)
        registry.register(ProcessState())
        self.gpus = GpuState()
        registry.register(self.gpus)

    def render(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)
