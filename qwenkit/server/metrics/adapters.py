"""LoRA adapters: what is loaded, and how much each is used. Knows names and versions.

An adapter that comes and goes under ever new names gets no series of its own after the first 64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qwenkit.engine.adapters import Adapter
from qwenkit.server.metrics.labels import OTHER, BoundedLabel

AdapterEvent: TypeAlias = Literal["loaded", "failed", "unloaded", "left_out"]
EVENTS: tuple[AdapterEvent, ...] = ("loaded", "failed", "unloaded", "left_out")


class AdapterMeasures:
    """Measures of adapters.

    Args:
        registry: Gets them.
        loaded: The adapters of the model that is served now.
    """

    def __init__(
        self, registry: CollectorRegistry, loaded: Callable[[], Sequence[Adapter]]
    ) -> None:
        self._loaded = loaded
        self._label = BoundedLabel()
        registry.register(_Loaded(loaded))
        text = "Adapters by what became of them: one that does not fit a new model is left out."
        events = Counter("qwenkit_adapter_loads", text, ("outcome",), registry=registry)
        self._events = {event: events.labels(event) for event in EVENTS}
        text = "Prompts computed with an adapter."
        self._prompts = Counter("qwenkit_adapter_prompts", text, ("adapter",), registry=registry)
        text = "Tokens of prompts and of answers that were computed with an adapter."
        self._tokens = Counter(
            "qwenkit_adapter_tokens", text, ("adapter", "kind"), registry=registry
        )

    def on_event(self, event: AdapterEvent) -> None:
        """Something has become of an adapter."""
        self._events[event].inc()

    def on_tokens(self, version: str, kind: str, n_tokens: int) -> None:
        """An adapter of that version was used; `kind` is `prompt` or `generated`.

        Callable from any thread.
        """
        name = self._label(self._name(version))
        self._tokens.labels(name, kind).inc(n_tokens)
        if kind == "prompt":
            self._prompts.labels(name).inc()

    def _name(self, version: str) -> str:
        return next((each.name for each in self._loaded() if each.version == version), OTHER)


class _Loaded(Collector):
    def __init__(self, loaded: Callable[[], Sequence[Adapter]]) -> None:
        self._loaded = loaded

    def describe(self) -> Iterable[Metric]:
        return _measures(())

    def collect(self) -> Iterable[Metric]:
        return _measures(self._loaded())


def _measures(adapters: Sequence[Adapter]) -> Iterable[Metric]:
    yield GaugeMetricFamily("qwenkit_adapters_loaded", "LoRA adapters loaded.", len(adapters))
    text = "1 for each loaded adapter, with the version of its content."
    info = GaugeMetricFamily("qwenkit_adapter_info", text, labels=("adapter", "version", "rank"))
    for each in adapters:
        info.add_metric((each.name, each.version, str(each.rank)), 1)
    yield info
