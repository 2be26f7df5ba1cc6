"""What Prometheus sees, fed by the engine and by the requests. Knows no route but its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from qwenkit.engine.observer import EngineSnapshot, Outcome

FIRST_TOKEN_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 300)
TOKEN_GAP_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 5)
STEP_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
REQUEST_S = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)

router = APIRouter(tags=["health"])


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """Everything measured since the start, in Prometheus' text format."""
    page: Metrics = request.app.state.serving.metrics
    return Response(page.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})


class Metrics:
    """Measures one server; an `Observer` of its engine.

    Args:
        snapshot: The engine's state now; None while there is no engine.
        n_adapters: Adapters that are loaded now.
    """

    def __init__(
        self, snapshot: Callable[[], EngineSnapshot | None], n_adapters: Callable[[], int]
    ) -> None:
        # Its own registry: two servers in one process, as in tests, must not collide.
        self._registry = registry = CollectorRegistry()
        registry.register(_EngineGauges(snapshot))
        adapters = Gauge("qwenkit_adapters_loaded", "LoRA adapters loaded.", registry=registry)
        adapters.set_function(n_adapters)
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)

        labels = ("route", "status")
        self._requests = counter("qwenkit_requests", "Requests answered.", labels)
        text = "Time from a request to the end of its answer."
        self._request_s = histogram(
            "qwenkit_request_duration_seconds", text, ("route",), buckets=REQUEST_S
        )
        text = "Prompt tokens, reused ones included."
        self._prompt_tokens = counter("qwenkit_prompt_tokens", text)
        text = "Prompt tokens whose state was reused."
        self._cached_tokens = counter("qwenkit_cached_tokens", text)
        self._generated_tokens = counter("qwenkit_generated_tokens", "Tokens generated.")
        text = "Tokens that were guessed ahead and verified."
        self._drafted_tokens = counter("qwenkit_drafted_tokens", text)
        text = "Of those, tokens that were right."
        self._accepted_tokens = counter("qwenkit_accepted_tokens", text)
        self._choices = counter("qwenkit_choices", "Choices that ended.", ("outcome",))
        text = "Time from a request's submission to its first token."
        self._first_token_s = histogram(
            "qwenkit_time_to_first_token_seconds", text, buckets=FIRST_TOKEN_S
        )
        text = "Time between two tokens of a choice."
        self._token_gap_s = histogram(
            "qwenkit_inter_token_latency_seconds", text, buckets=TOKEN_GAP_S
        )
        text = "Time that a step of the engine took."
        self._step_s = histogram("qwenkit_step_duration_seconds", text, buckets=STEP_S)
        text = "Models loaded in place of another, by how that ended."
        self._reloads = counter("qwenkit_reloads", text, ("outcome",))
        text = "Records of answers, ratings and tool runs, by sink and by what became of them."
        self._records = counter("qwenkit_feedback_records", text, ("sink", "kind", "outcome"))
        rows = counter("qwenkit_rows", "Rows computed, by what they were for.", ("kind",))
        self._decode_rows = rows.labels("decode")
        self._prefill_rows = rows.labels("prefill")

        text = "Answers, ratings and tool runs that Langfuse has taken."
        self._langfuse_sent = counter("qwenkit_langfuse_records_sent", text)
        text = "Those that it has not, by why: the log still has them."
        self._langfuse_lost = counter("qwenkit_langfuse_records_lost", text, ("reason",))

    def render(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)

    def on_request(self, *, route: str, status: int, seconds: float) -> None:
        """An answer has ended."""
        self._requests.labels(route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def on_reload(self, outcome: Literal["loaded", "failed"]) -> None:
        """A model has been loaded in place of another, or could not be."""
        self._reloads.labels(outcome).inc()

    def on_record(
        self, sink: str, kind: str, outcome: Literal["written", "failed", "dropped"]
    ) -> None:
        """A record has reached a sink, or has not."""
        self._records.labels(sink, kind, outcome).inc()

    def on_langfuse_sent(self, n_records: int) -> None:
        """Langfuse has taken records."""
        self._langfuse_sent.inc(n_records)

    def on_langfuse_lost(self, reason: str, n_records: int) -> None:
        """Langfuse has not taken records."""
        self._langfuse_lost.labels(reason).inc(n_records)

    def on_first_token(self, seconds: float) -> None:
        """See `Observer`."""
        self._first_token_s.observe(seconds)

    def on_token_gap(self, seconds: float) -> None:
        """See `Observer`."""
        self._token_gap_s.observe(seconds)

    def on_step(self, n_decode: int, n_prefill: int, seconds: float) -> None:
        """See `Observer`."""
        self._step_s.observe(seconds)
        self._decode_rows.inc(n_decode)
        self._prefill_rows.inc(n_prefill)

    def on_prompt(self, n_prompt: int, n_cached: int) -> None:
        """See `Observer`."""
        self._prompt_tokens.inc(n_prompt)
        self._cached_tokens.inc(n_cached)

    def on_draft(self, n_drafted: int, n_accepted: int) -> None:
        """See `Observer`."""
        self._drafted_tokens.inc(n_drafted)
        self._accepted_tokens.inc(n_accepted)

    def on_choice_done(self, n_tokens: int, outcome: Outcome) -> None:
        """See `Observer`."""
        self._generated_tokens.inc(n_tokens)
        self._choices.labels(outcome).inc()


class _EngineGauges:
    """Reads the engine when Prometheus asks, so that a gauge costs nothing in between."""

    def __init__(self, snapshot: Callable[[], EngineSnapshot | None]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        now = self._snapshot()
        if now is None:
            return
        yield _gauge("qwenkit_queue_length", "Sequences that wait for a slot.", now.n_waiting)
        yield _gauge("qwenkit_slots_used", "Sequences that are being decoded.", now.n_running)
        yield _gauge("qwenkit_slots", "Sequences that can be decoded together.", now.n_slots)
        yield _gauge("qwenkit_sequences_parked", "Sequences kept for reuse.", now.n_parked)
        yield _gauge("qwenkit_kv_cells_used", "KV cells in use.", now.cells_used)
        yield _gauge("qwenkit_kv_cells", "KV cells in all.", now.n_cells)
        yield _gauge("qwenkit_preempted", "Sequences that lost their slot.", now.n_preempted)
        yield _gauge("qwenkit_evicted", "Kept states that were dropped.", now.n_evicted)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
