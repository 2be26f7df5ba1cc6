"""The agent's runs, its steps and its tools. Knows outcomes; no graph and no thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

RunOutcome: TypeAlias = Literal["success", "error", "cancelled", "waiting"]
ToolOutcome: TypeAlias = Literal["success", "error", "rejected"]
RUN_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)
TOOL_S = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60)


class AgentMeasures:
    """Measures of the agent.

    Args:
        registry: Gets them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        text = "The agent's runs, by how they ended; one that is `waiting` asks a person."
        runs = counter("qwenkit_agent_runs", text, ("outcome",))
        self._runs: dict[RunOutcome, Counter] = {
            outcome: runs.labels(outcome) for outcome in get_args(RunOutcome)
        }
        text = "Time that a run took, waiting for its thread included."
        self._run_s = histogram("qwenkit_agent_run_duration_seconds", text, buckets=RUN_S)
        text = "The agent's runs that are not over."
        self._active = Gauge("qwenkit_agent_runs_active", text, registry=registry)
        text = "Answers of a model that the agent has asked for."
        self._steps = counter("qwenkit_agent_steps", text)
        text = "Tools that the agent has called, by what came of it."
        tools = counter("qwenkit_agent_tool_calls", text, ("outcome",))
        self._tools: dict[ToolOutcome, Counter] = {
            outcome: tools.labels(outcome) for outcome in get_args(ToolOutcome)
        }
        text = "Time that a tool of the agent's took."
        self._tool_s = histogram("qwenkit_agent_tool_duration_seconds", text, buckets=TOOL_S)

    def watch_active(self, n_active: Callable[[], int]) -> None:
        """Have the number of active runs read from there."""
        self._active.set_function(n_active)

    def on_run(self, outcome: RunOutcome, seconds: float) -> None:
        """A run is over."""
        self._runs[outcome].inc()
        self._run_s.observe(seconds)

    def on_step(self) -> None:
        """The agent asks a model."""
        self._steps.inc()

    def on_tool(self, outcome: ToolOutcome, seconds: float) -> None:
        """A tool call is over."""
        self._tools[outcome].inc()
        if outcome != "rejected":
            self._tool_s.observe(seconds)
