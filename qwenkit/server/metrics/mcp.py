"""Tools of MCP servers that are called, tools of ours that are, and who is connected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qwenkit.mcp.client.calls import McpCall
from qwenkit.mcp.client.status import ServerStatus
from qwenkit.server.metrics.labels import BoundedLabel

CALL_S = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120)


class McpMeasures:
    """Measures of MCP, on both of its sides.

    Args:
        registry: Gets them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._label = BoundedLabel()
        text = "Tools of MCP servers that were called, by what came of it."
        self._calls = Counter("qwenkit_mcp_calls", text, ("server", "outcome"), registry=registry)
        text = "Time that a call of an MCP server's tool took."
        self._seconds = Histogram(
            "qwenkit_mcp_call_duration_seconds",
            text,
            ("server",),
            buckets=CALL_S,
            registry=registry,
        )
        text = "Our own tools that were called over /mcp, by what came of it."
        self._served = Counter(
            "qwenkit_mcp_served_calls", text, ("tool", "outcome"), registry=registry
        )

    def watch(self, status: Callable[[], Sequence[ServerStatus]]) -> None:
        """Have the state of the servers read from there."""
        self._registry.register(_Servers(status, self._label))

    def on_call(self, call: McpCall) -> None:
        """A server's tool was called."""
        server = self._label(call.server)
        self._calls.labels(server, call.outcome).inc()
        self._seconds.labels(server).observe(call.seconds)

    def on_served(self, tool: str, outcome: Literal["success", "error"]) -> None:
        """One of our own tools was called."""
        self._served.labels(tool, outcome).inc()


class _Servers(Collector):
    def __init__(self, status: Callable[[], Sequence[ServerStatus]], label: BoundedLabel) -> None:
        self._status = status
        self._label = label

    def describe(self) -> Iterable[Metric]:
        return (_up(),)

    def collect(self) -> Iterable[Metric]:
        up = _up()
        for each in self._status():
            if each.state != "disabled":
                up.add_metric((self._label(each.name),), float(each.state == "connected"))
        yield up


def _up() -> GaugeMetricFamily:
    text = "1 for an MCP server that is connected, 0 for one that is not."
    return GaugeMetricFamily("qwenkit_mcp_server_up", text, labels=("server",))
