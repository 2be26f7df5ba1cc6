"""Models as they come and go. Knows what is served; not how it is loaded."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import qwenkit
from qwenkit.chat.completion import ChatModel

RELOAD_S = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is served now.

    Args:
        model: The current model; None where there is none.
        is_ready: Whether requests are taken, be it that they wait for a new model.
        n_waiting: Requests that wait for a new model.
        n_retired: Older models that still have requests.
    """

    model: ChatModel | None = None
    is_ready: bool = False
    n_waiting: int = 0
    n_retired: int = 0


class ModelMeasures:
    """Measures of models.

    Args:
        registry: Gets them.
        served: What is served now.
    """

    def __init__(self, registry: CollectorRegistry, served: Callable[[], Served]) -> None:
        registry.register(_Served(served))
        text = "1, with the versions of qwenkit and Python."
        build = Gauge("qwenkit_build_info", text, ("version", "python"), registry=registry)
        build.labels(qwenkit.__version__, platform.python_version()).set(1)
        text = "Models loaded in place of another, by how that ended."
        reloads = Counter("qwenkit_reloads", text, ("outcome",), registry=registry)
        self._reloads = {each: reloads.labels(each) for each in ("loaded", "failed")}
        text = "Time that it took to replace a model."
        self._seconds = Histogram(
            "qwenkit_reload_duration_seconds", text, buckets=RELOAD_S, registry=registry
        )

    def on_reload(self, outcome: Literal["loaded", "failed"], seconds: float) -> None:
        """A model has been loaded in place of another, or could not be."""
        self._reloads[outcome].inc()
        if outcome == "loaded":
            self._seconds.observe(seconds)


class _Served(Collector):
    def __init__(self, served: Callable[[], Served]) -> None:
        self._served = served

    def describe(self) -> Iterable[Metric]:
        return _measures(Served())

    def collect(self) -> Iterable[Metric]:
        return _measures(self._served())


def _measures(served: Served) -> Iterable[Metric]:
    text = "1 while requests are taken, as /readyz says it; 0 before that and during shutdown."
    yield GaugeMetricFamily("qwenkit_ready", text, float(served.is_ready))
    text = "Requests that wait for a model that is being replaced."
    yield GaugeMetricFamily("qwenkit_requests_waiting_for_model", text, served.n_waiting)
    text = "Older models that still have requests."
    yield GaugeMetricFamily("qwenkit_models_retired", text, served.n_retired)
    names = ("model", "architecture", "runtime", "fingerprint")
    text = "1 for the model that is served, with what it is."
    info = GaugeMetricFamily("qwenkit_model_info", text, labels=names)
    parameters = GaugeMetricFamily("qwenkit_model_parameters", "Its parameters.")
    weights = GaugeMetricFamily("qwenkit_model_weights_bytes", "Size of its weights.")
    context = GaugeMetricFamily("qwenkit_model_context_tokens", "Tokens of its context.")
    if served.model is not None:
        engine = served.model.engine
        facts = engine.facts
        info.add_metric(
            (served.model.name, facts.architecture, facts.runtime, facts.fingerprint), 1
        )
        parameters.add_metric((), facts.n_params)
        weights.add_metric((), facts.size_bytes)
        context.add_metric((), engine.capabilities.n_ctx)
    yield from (info, parameters, weights, context)
