"""What the engine computes, and what it holds. Knows the engine's words; no model's name.

The counters are the engine's to feed, on its thread. The gauges are read when Prometheus asks, so
that they cost nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qwenkit.engine.observer import EngineSnapshot, Outcome

QUEUE_S = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 300)
FIRST_TOKEN_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 300)
TOKEN_GAP_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 5)
STEP_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
PROMPT_TOKENS = (16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144)
ANSWER_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16_384)


class EngineMeasures:
    """Measures of the engine; an `Observer` of it.

    Args:
        registry: Gets them.
        on_adapter: Told of a prompt's tokens and an answer's, by the version of their adapter.
    """

    def __init__(
        self, registry: CollectorRegistry, *, on_adapter: Callable[[str, str, int], None]
    ) -> None:
        self._on_adapter = on_adapter
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)

        text = "Prompt tokens, reused ones included."
        self._prompt_tokens = counter("qwenkit_prompt_tokens", text)
        text = "Prompt tokens whose state was reused."
        self._cached_tokens = counter("qwenkit_cached_tokens", text)
        text = "Prompts computed, by whether the state of any of their tokens was reused."
        prompts = counter("qwenkit_prompts", text, ("cache",))
        self._hits, self._misses = prompts.labels("hit"), prompts.labels("miss")
        text = "Tokens of a prompt."
        self._prompt_length = histogram("qwenkit_prompt_length_tokens", text, buckets=PROMPT_TOKENS)
        self._generated_tokens = counter("qwenkit_generated_tokens", "Tokens generated.")
        text = "Tokens of a choice."
        self._choice_length = histogram("qwenkit_choice_length_tokens", text, buckets=ANSWER_TOKENS)
        text = "Tokens that were guessed ahead and verified."
        self._drafted_tokens = counter("qwenkit_drafted_tokens", text)
        text = "Of those, tokens that were right."
        self._accepted_tokens = counter("qwenkit_accepted_tokens", text)
        text = "Choices that ended, by how."
        choices = counter("qwenkit_choices", text, ("outcome",))
        self._choices: dict[Outcome, Counter] = {
            outcome: choices.labels(outcome) for outcome in get_args(Outcome)
        }
        text = "Time that a request waited for a slot."
        self._queue_s = histogram("qwenkit_queue_wait_seconds", text, buckets=QUEUE_S)
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
        rows = counter("qwenkit_rows", "Rows computed, by what they were for.", ("kind",))
        self._decode_rows = rows.labels("decode")
        self._prefill_rows = rows.labels("prefill")

    def on_started(self, seconds: float) -> None:
        """See `Observer`."""
        self._queue_s.observe(seconds)

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

    def on_prompt(self, n_prompt: int, n_cached: int, adapter: str) -> None:
        """See `Observer`."""
        self._prompt_tokens.inc(n_prompt)
        self._cached_tokens.inc(n_cached)
        self._prompt_length.observe(n_prompt)
        (self._hits if n_cached else self._misses).inc()
        if adapter:
            self._on_adapter(adapter, "prompt", n_prompt)

    def on_draft(self, n_drafted: int, n_accepted: int) -> None:
        """See `Observer`."""
        self._drafted_tokens.inc(n_drafted)
        self._accepted_tokens.inc(n_accepted)

    def on_choice_done(self, n_tokens: int, outcome: Outcome, adapter: str) -> None:
        """See `Observer`."""
        self._generated_tokens.inc(n_tokens)
        self._choice_length.observe(n_tokens)
        self._choices[outcome].inc()
        if adapter:
            self._on_adapter(adapter, "generated", n_tokens)


class EngineState(Collector):
    """What the engine holds now; nothing where there is none.

    Args:
        snapshot: Its state.
    """

    def __init__(self, snapshot: Callable[[], EngineSnapshot | None]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """The measures without values, for the registry."""
        return _state_of(_NOTHING)

    def collect(self) -> Iterable[Metric]:
        """The measures."""
        now = self._snapshot()
        return () if now is None else _state_of(now)


_NOTHING = EngineSnapshot(
    n_running=0,
    n_waiting=0,
    n_slots=0,
    n_parked=0,
    cells_used=0,
    n_cells=0,
    n_preempted=0,
    n_evicted=0,
    n_restored=0,
    n_shelved=0,
    shelf_bytes=0,
    max_shelf_bytes=0,
)


def _state_of(now: EngineSnapshot) -> Iterable[Metric]:
    gauge, counter = GaugeMetricFamily, CounterMetricFamily
    text = "Sequences that wait for a slot."
    yield gauge("qwenkit_queue_length", text, now.n_waiting)
    yield gauge("qwenkit_slots_used", "Sequences that are being decoded.", now.n_running)
    yield gauge("qwenkit_slots", "Sequences that can be decoded together.", now.n_slots)
    yield gauge("qwenkit_sequences_parked", "Sequences kept for reuse.", now.n_parked)
    yield gauge("qwenkit_kv_cells_used", "KV cells in use.", now.cells_used)
    yield gauge("qwenkit_kv_cells", "KV cells in all.", now.n_cells)
    text = "Prompts' states that ordinary memory holds."
    yield gauge("qwenkit_ram_cache_states", text, now.n_shelved)
    yield gauge("qwenkit_ram_cache_bytes", "Their size.", now.shelf_bytes)
    text = "Most bytes that they may take."
    yield gauge("qwenkit_ram_cache_limit_bytes", text, now.max_shelf_bytes)
    text = "States brought back from ordinary memory."
    yield counter("qwenkit_ram_cache_restored", text, now.n_restored)
    text = "Sequences that lost their slot to make room."
    yield counter("qwenkit_preempted", text, now.n_preempted)
    yield counter("qwenkit_evicted", "Kept states that were dropped.", now.n_evicted)
