"""Requests and their answers, by route. Knows what a request came to; nothing of how."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from qwenkit.server.exchange import Exchange

REQUEST_S = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


class HttpMeasures:
    """Measures of requests.

    Args:
        registry: Gets them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Requests answered, by the route's pattern and the answer's status."
        self._requests = Counter("qwenkit_requests", text, ("route", "status"), registry=registry)
        text = "Time from a request to the end of its answer."
        self._seconds = Histogram(
            "qwenkit_request_duration_seconds",
            text,
            ("route",),
            buckets=REQUEST_S,
            registry=registry,
        )
        text = "Bytes of request bodies."
        self._received = Counter("qwenkit_request_bytes", text, ("route",), registry=registry)
        text = "Bytes of answers' bodies."
        self._sent = Counter("qwenkit_response_bytes", text, ("route",), registry=registry)
        text = "Requests whose answer has not ended."
        self._in_flight = Gauge("qwenkit_requests_in_flight", text, registry=registry)

    def on_begin(self) -> None:
        """A request has come."""
        self._in_flight.inc()

    def on_end(self, exchange: Exchange) -> None:
        """Its answer has ended."""
        self._in_flight.dec()
        self._requests.labels(exchange.route, str(exchange.status)).inc()
        self._seconds.labels(exchange.route).observe(exchange.seconds)
        self._received.labels(exchange.route).inc(exchange.n_received)
        self._sent.labels(exchange.route).inc(exchange.n_sent)
