"""Spans that are sent. Knows counts; no span."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter


class TelemetryMeasures:
    """Measures of the sending of traces.

    Args:
        registry: Gets them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Spans that the collector has taken, and those that it has not."
        spans = Counter("qwenkit_trace_spans", text, ("outcome",), registry=registry)
        self._spans = {each: spans.labels(each) for each in ("sent", "failed")}

    def on_spans(self, outcome: Literal["sent", "failed"], n_spans: int) -> None:
        """Spans were sent, or could not be. Callable from any thread."""
        self._spans[outcome].inc(n_spans)
