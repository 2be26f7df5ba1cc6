"""Records of answers, ratings and tool runs, and where they got to. Knows sinks by name."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter

from qwenkit.feedback.langfuse.outcome import Lost

KINDS = ("interaction", "rating", "tool_run")
OUTCOMES = ("written", "failed")


class FeedbackMeasures:
    """Measures of what is recorded.

    Args:
        registry: Gets them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Records of answers, ratings and tool runs, by sink and by what became of them."
        names = ("sink", "kind", "outcome")
        self._records = Counter("qwenkit_feedback_records", text, names, registry=registry)
        # A series that begins at 1 has no increase: alerts would miss the first failure.
        for kind in KINDS:
            for outcome in OUTCOMES:
                self._records.labels("log", kind, outcome)
        self._records.labels("log", "batch", "dropped")
        text = "Answers, ratings and tool runs that Langfuse has taken."
        self._sent = Counter("qwenkit_langfuse_records_sent", text, registry=registry)
        text = "Those that it has not, by why: the log still has them."
        self._lost = Counter("qwenkit_langfuse_records_lost", text, ("reason",), registry=registry)
        for reason in get_args(Lost):
            self._lost.labels(reason)

    def on_record(
        self, sink: str, kind: str, outcome: Literal["written", "failed", "dropped"]
    ) -> None:
        """A record has reached a sink, or has not."""
        self._records.labels(sink, kind, outcome).inc()

    def on_langfuse_sent(self, n_records: int) -> None:
        """Langfuse has taken records."""
        self._sent.inc(n_records)

    def on_langfuse_lost(self, reason: Lost, n_records: int) -> None:
        """Langfuse has not taken records."""
        self._lost.labels(reason).inc(n_records)
