"""The page of the docs on what `/metrics` exports. Knows Prometheus' client library.

Families without a sample don't tell their labels, so those are read from where the library keeps
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qwenkit.server.metrics import Metrics

INTRODUCTION = (
    "What `/metrics` exports, in Prometheus' text format. Where `API_KEYS` is set it needs a key. "
    "[Operate](../guides/operate.md) says what to look at first; dashboards and alerts are in "
    "`compose/monitoring`."
)
GROUPS = (
    ("Requests", ("qwenkit_request", "qwenkit_response")),
    ("Models", ("qwenkit_ready", "qwenkit_model", "qwenkit_reload", "qwenkit_build")),
    ("Adapters", ("qwenkit_adapter",)),
    ("Agent", ("qwenkit_agent",)),
    ("MCP", ("qwenkit_mcp",)),
    ("Feedback", ("qwenkit_feedback", "qwenkit_langfuse")),
    ("Traces", ("qwenkit_trace",)),
    ("GPUs", ("qwenkit_gpu",)),
    ("Process and machine", ("process_", "qwenkit_memory")),
    ("Engine", ("qwenkit_",)),
)
"""Headings, and how the names below them begin; the first that fits."""
NOTES = {
    "Requests": (
        "`route` is the route's pattern, never a path: `other` where no route was found. "
        "Status 499 is a client that went before its answer."
    ),
    "Adapters": (
        "`adapter` is the name that requests use. After 64 names the others share `other`."
    ),
    "MCP": "`server` is its name in the configuration; after 64 names the others share `other`.",
    "Feedback": (
        "`sink` is `log` or `langfuse`; `kind` is `interaction`, `rating` or `tool_run`, and "
        "`batch` where what could not be kept was not looked into. What is written for Langfuse "
        "waits to be sent."
    ),
    "GPUs": (
        "As NVIDIA's driver tells it; nothing where there is none, and no reading that a card "
        "can't give."
    ),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """What is exported under a name.

    Args:
        name: As Prometheus stores it; of a histogram, without `_bucket`, `_sum` and `_count`.
        kind: `counter`, `gauge` or `histogram`.
        labels: Its labels.
        text: What it is.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query may use."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


def measures() -> list[Measure]:
    """Everything that a server exports."""
    page = Metrics(lambda: None, _nothing_served, lambda: ())
    page.mcp.watch(lambda: ())
    collectors: Any = page.registry._collector_to_names
    found = [each for collector in collectors for each in _measures_of(collector)]
    return sorted(found, key=lambda each: each.name)


def _nothing_served() -> Any:
    from qwenkit.server.metrics.models import Served

    return Served()


def _measures_of(collector: Any) -> Iterator[Measure]:
    own_labels = getattr(collector, "_labelnames", None)
    for family in collector.describe():
        labels = own_labels if own_labels is not None else family._labelnames
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield Measure(name, family.type, tuple(labels), family.documentation)


def metrics_page() -> str:
    """The page."""
    parts = ["# Metrics", "<!-- made by docs/generate.py; edit the code instead -->", INTRODUCTION]
    left = measures()
    for title, begins in GROUPS:
        here = [each for each in left if each.name.startswith(begins)]
        left = [each for each in left if each not in here]
        parts.append(f"## {title}")
        parts += [NOTES[title]] if title in NOTES else []
        rows = [f"| `{each.name}` | {each.kind} | {_labels(each)} | {each.text} |" for each in here]
        parts.append("\n".join(["| name | kind | labels | |", "|---|---|---|---|", *rows]))
    if left:
        raise ValueError(f"no heading for {left[0].name}")
    return "\n\n".join(parts) + "\n"


def _labels(measure: Measure) -> str:
    return ", ".join(f"`{each}`" for each in measure.labels)
