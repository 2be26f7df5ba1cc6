"""Makes Grafana's dashboards: `python compose/monitoring/dashboards.py`; `--check` only compares.

A panel here is a title, what it asks Prometheus, and a unit; everything else that Grafana wants to
read stands once. Only the standard library is needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).resolve().parent / "grafana" / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH = 24
HERE = 'instance=~"$instance"'
"""What every query of ours asks for: the servers that are chosen at the top of the page."""
SERVER_ERROR = 'status=~"5.."'
DECODE = 'kind="decode"'
HIT = 'cache="hit"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Args:
        title: What it shows.
        asks: Queries, each with what its lines are called; `{{label}}` is filled in.
        unit: As Grafana names units (`s`, `bytes`, `percentunit`, `short`).
        kind: Lines over time, or the newest number.
        says: What it means, where the title does not.
        wide: Columns of 24 that it takes.
        stacked: Whether lines stand on each other.
    """

    title: str
    asks: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"
    says: str = ""
    wide: int = 8
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard.

    Args:
        uid: Of its address, and the name of its file.
        title: For people.
        says: What it is about, and whose measures it shows.
        rows: From top to bottom.
        instances: What the choice of instances is read from.
    """

    uid: str
    title: str
    says: str
    rows: Sequence[Row]
    instances: str = "qwenkit_ready"


def stat(title: str, ask: str, unit: str = "short", says: str = "") -> Panel:
    """A number."""
    return Panel(title=title, asks=[(ask, "")], unit=unit, kind="stat", says=says, wide=4)


def rate(metric: str, labels: str = "", by: str = "") -> str:
    """What is added to a counter in a second."""
    chosen = f"{HERE}, {labels}" if labels else HERE
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}{{{chosen}}}[$__rate_interval]))"


def quantiles(histogram: str, *wanted: float) -> list[tuple[str, str]]:
    """Quantiles of a histogram of ours."""
    buckets = f"sum by (le) (rate({histogram}_bucket{{{HERE}}}[$__rate_interval]))"
    return [
        (f"histogram_quantile({each}, {buckets})", f"{each:.0%}")
        for each in wanted or (0.5, 0.9, 0.99)
    ]


def recent(metric: str, by: str) -> str:
    """What was added to a counter in the hour before."""
    return f"sum by ({by}) (increase({metric}{{{HERE}}}[1h]))"


def share(part: str, whole: str) -> str:
    """One query by another."""
    return f"{part} / {whole}"


def now(metric: str, labels: str = "", by: str = "") -> str:
    """A gauge, summed over the servers."""
    chosen = f"{HERE}, {labels}" if labels else HERE
    return f"sum by ({by}) ({metric}{{{chosen}}})" if by else f"sum ({metric}{{{chosen}}})"


SERVING = Dashboard(
    uid="qwenkit-serving",
    title="qwenkit: serving",
    says="Requests, latencies, the engine and its caches. Everything is exported by qwenkit.",
    rows=(
        Row(
            "Now",
            (
                stat("Ready", f"min (qwenkit_ready{{{HERE}}})", says="1 when all take requests"),
                stat("Requests in flight", now("qwenkit_requests_in_flight")),
                stat("Waiting for a slot", now("qwenkit_queue_length")),
                stat("Tokens a second", rate("qwenkit_generated_tokens_total")),
                stat(
                    "Prompt tokens reused",
                    share(rate("qwenkit_cached_tokens_total"), rate("qwenkit_prompt_tokens_total")),
                    "percentunit",
                ),
                stat(
                    "Errors",
                    f"({rate('qwenkit_requests_total', SERVER_ERROR)}"
                    f" or vector(0)) / {rate('qwenkit_requests_total')}",
                    "percentunit",
                    "Answers with a status of 500 and above",
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    title="Requests by route",
                    asks=[(rate("qwenkit_requests_total", by="route"), "{{route}}")],
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="Answers by status",
                    asks=[(rate("qwenkit_requests_total", by="status"), "{{status}}")],
                    unit="reqps",
                    stacked=True,
                    says="499 is a client that went before its answer; 503 is a full queue.",
                ),
                Panel(
                    title="Bytes of bodies",
                    asks=[
                        (rate("qwenkit_request_bytes_total"), "received"),
                        (rate("qwenkit_response_bytes_total"), "sent"),
                    ],
                    unit="Bps",
                ),
                Panel(
                    title="Time of a request",
                    asks=quantiles("qwenkit_request_duration_seconds"),
                    unit="s",
                    says="Whole answers: long ones take long.",
                ),
                Panel(
                    title="Answers by how they ended",
                    asks=[(rate("qwenkit_choices_total", by="outcome"), "{{outcome}}")],
                    unit="ops",
                    stacked=True,
                ),
                Panel(
                    title="Length of prompts and answers",
                    asks=[
                        (ask, f"{kind} {name}")
                        for kind, metric in (
                            ("prompt", "qwenkit_prompt_length_tokens"),
                            ("answer", "qwenkit_choice_length_tokens"),
                        )
                        for ask, name in quantiles(metric, 0.5, 0.9)
                    ],
                ),
            ),
        ),
        Row(
            "Latency",
            (
                Panel(
                    title="Time in the queue",
                    asks=quantiles("qwenkit_queue_wait_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Time to the first token",
                    asks=quantiles("qwenkit_time_to_first_token_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Time between tokens",
                    asks=quantiles("qwenkit_inter_token_latency_seconds"),
                    unit="s",
                ),
            ),
        ),
        Row(
            "Engine",
            (
                Panel(
                    title="Tokens",
                    asks=[
                        (rate("qwenkit_generated_tokens_total"), "generated"),
                        (rate("qwenkit_prompt_tokens_total"), "of prompts"),
                        (rate("qwenkit_cached_tokens_total"), "of prompts, reused"),
                    ],
                    unit="cps",
                ),
                Panel(
                    title="Slots",
                    asks=[
                        (now("qwenkit_slots_used"), "decoding"),
                        (now("qwenkit_queue_length"), "waiting"),
                        (now("qwenkit_slots"), "slots"),
                    ],
                ),
                Panel(
                    title="Rows computed",
                    asks=[(rate("qwenkit_rows_total", by="kind"), "{{kind}}")],
                    unit="ops",
                    stacked=True,
                ),
                Panel(
                    title="Time of a step",
                    asks=quantiles("qwenkit_step_duration_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Answers in a step",
                    asks=[
                        (
                            share(
                                rate("qwenkit_rows_total", DECODE),
                                rate("qwenkit_step_duration_seconds_count"),
                            ),
                            "rows",
                        )
                    ],
                    says="Rows of running answers for each step: how much is computed together.",
                ),
                Panel(
                    title="Guessed tokens that were right",
                    asks=[
                        (
                            share(
                                rate("qwenkit_accepted_tokens_total"),
                                rate("qwenkit_drafted_tokens_total"),
                            ),
                            "share",
                        )
                    ],
                    unit="percentunit",
                    says="Empty while nothing is guessed ahead.",
                ),
            ),
        ),
        Row(
            "Caches",
            (
                Panel(
                    title="KV cells",
                    asks=[
                        (now("qwenkit_kv_cells_used"), "used"),
                        (now("qwenkit_kv_cells"), "all"),
                    ],
                ),
                Panel(
                    title="Prompts with a cached beginning",
                    asks=[
                        (
                            share(
                                rate("qwenkit_prompts_total", HIT), rate("qwenkit_prompts_total")
                            ),
                            "hit rate",
                        )
                    ],
                    unit="percentunit",
                ),
                Panel(
                    title="Cache in ordinary memory",
                    asks=[
                        (now("qwenkit_ram_cache_bytes"), "used"),
                        (now("qwenkit_ram_cache_limit_bytes"), "limit"),
                    ],
                    unit="bytes",
                ),
                Panel(
                    title="States kept",
                    asks=[
                        (now("qwenkit_sequences_parked"), "in KV cells"),
                        (now("qwenkit_ram_cache_states"), "in ordinary memory"),
                    ],
                ),
                Panel(
                    title="States moved and lost",
                    asks=[
                        (rate("qwenkit_evicted_total"), "made way"),
                        (rate("qwenkit_ram_cache_restored_total"), "brought back"),
                        (rate("qwenkit_preempted_total"), "lost their slot"),
                    ],
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Models and adapters",
            (
                Panel(
                    title="Served model",
                    asks=[(f"qwenkit_model_info{{{HERE}}}", "{{model}} ({{runtime}})")],
                ),
                Panel(
                    title="Models replaced",
                    asks=[
                        (
                            recent("qwenkit_reloads_total", by="outcome"),
                            "{{outcome}}",
                        )
                    ],
                    says="In the hour before.",
                ),
                Panel(
                    title="Time to replace a model",
                    asks=quantiles("qwenkit_reload_duration_seconds", 0.5, 0.9),
                    unit="s",
                ),
                Panel(
                    title="While models are replaced",
                    asks=[
                        (now("qwenkit_requests_waiting_for_model"), "requests that wait"),
                        (now("qwenkit_models_retired"), "older models at work"),
                    ],
                ),
                Panel(
                    title="Adapters",
                    asks=[
                        (now("qwenkit_adapters_loaded"), "loaded"),
                        (
                            recent("qwenkit_adapter_loads_total", by="outcome"),
                            "{{outcome}} in the hour before",
                        ),
                    ],
                ),
                Panel(
                    title="Tokens by adapter",
                    asks=[
                        (
                            rate("qwenkit_adapter_tokens_total", by="adapter, kind"),
                            "{{adapter}}, {{kind}}",
                        )
                    ],
                    unit="cps",
                ),
                Panel(
                    title="Prompts by adapter",
                    asks=[(rate("qwenkit_adapter_prompts_total", by="adapter"), "{{adapter}}")],
                    unit="ops",
                ),
            ),
        ),
    ),
)

AGENT = Dashboard(
    uid="qwenkit-agent",
    title="qwenkit: agent, tools and feedback",
    says="Runs, tools, MCP, and what is recorded. Everything is exported by qwenkit.",
    rows=(
        Row(
            "Agent",
            (
                Panel(
                    title="Runs by how they ended",
                    asks=[(rate("qwenkit_agent_runs_total", by="outcome"), "{{outcome}}")],
                    unit="ops",
                    stacked=True,
                    says="A run that is `waiting` asks a person whether a tool may run.",
                ),
                Panel(
                    title="Time of a run",
                    asks=quantiles("qwenkit_agent_run_duration_seconds"),
                    unit="s",
                ),
                Panel(title="Runs now", asks=[(now("qwenkit_agent_runs_active"), "active")]),
                Panel(
                    title="Model calls for each run",
                    asks=[
                        (
                            share(
                                rate("qwenkit_agent_steps_total"), rate("qwenkit_agent_runs_total")
                            ),
                            "steps",
                        )
                    ],
                ),
                Panel(
                    title="Tool calls",
                    asks=[(rate("qwenkit_agent_tool_calls_total", by="outcome"), "{{outcome}}")],
                    unit="ops",
                    stacked=True,
                ),
                Panel(
                    title="Time of a tool",
                    asks=quantiles("qwenkit_agent_tool_duration_seconds"),
                    unit="s",
                ),
            ),
        ),
        Row(
            "MCP",
            (
                Panel(
                    title="Servers that are connected",
                    asks=[(f"qwenkit_mcp_server_up{{{HERE}}}", "{{server}}")],
                ),
                Panel(
                    title="Calls of servers' tools",
                    asks=[
                        (
                            rate("qwenkit_mcp_calls_total", by="server, outcome"),
                            "{{server}}, {{outcome}}",
                        )
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Time of a call",
                    asks=quantiles("qwenkit_mcp_call_duration_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Calls of our own tools",
                    asks=[
                        (
                            rate("qwenkit_mcp_served_calls_total", by="tool, outcome"),
                            "{{tool}}, {{outcome}}",
                        )
                    ],
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Feedback and traces",
            (
                Panel(
                    title="Records",
                    asks=[
                        (
                            rate("qwenkit_feedback_records_total", by="sink, kind, outcome"),
                            "{{kind}} {{outcome}} ({{sink}})",
                        )
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Langfuse",
                    asks=[
                        (rate("qwenkit_langfuse_records_sent_total"), "taken"),
                        (
                            rate("qwenkit_langfuse_records_lost_total", by="reason"),
                            "not taken: {{reason}}",
                        ),
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Spans",
                    asks=[(rate("qwenkit_trace_spans_total", by="outcome"), "{{outcome}}")],
                    unit="ops",
                ),
            ),
        ),
    ),
)

GPU = "gpu {{gpu}} ({{name}})"
MACHINE = Dashboard(
    uid="qwenkit-machine",
    title="qwenkit: process and GPUs",
    says=(
        "What the server takes of its machine, as qwenkit itself tells it. GPUs are told of where "
        "NVIDIA's driver is."
    ),
    rows=(
        Row(
            "Process",
            (
                Panel(
                    title="Processor",
                    asks=[
                        (
                            f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval])",
                            "{{instance}}",
                        )
                    ],
                    says="Cores in use.",
                ),
                Panel(
                    title="Memory",
                    asks=[
                        (f"process_resident_memory_bytes{{{HERE}}}", "{{instance}}"),
                        (f"qwenkit_model_weights_bytes{{{HERE}}}", "weights of {{instance}}"),
                    ],
                    unit="bytes",
                ),
                Panel(
                    title="Memory left",
                    asks=[
                        (f"qwenkit_memory_available_bytes{{{HERE}}}", "{{instance}}"),
                        (f"qwenkit_memory_total_bytes{{{HERE}}}", "{{instance}}, all"),
                    ],
                    unit="bytes",
                ),
                Panel(
                    title="File descriptors",
                    asks=[
                        (f"process_open_fds{{{HERE}}}", "{{instance}}"),
                        (f"process_max_fds{{{HERE}}}", "{{instance}}, most"),
                    ],
                ),
                Panel(title="Threads", asks=[(f"process_threads{{{HERE}}}", "{{instance}}")]),
                Panel(
                    title="Uptime",
                    asks=[(f"time() - process_start_time_seconds{{{HERE}}}", "{{instance}}")],
                    unit="s",
                ),
            ),
        ),
        Row(
            "GPUs",
            (
                Panel(title="GPUs", asks=[(f"qwenkit_gpus{{{HERE}}}", "{{instance}}")]),
                Panel(
                    title="Utilisation",
                    asks=[
                        (f"qwenkit_gpu_utilization_ratio{{{HERE}}}", GPU),
                        (f"qwenkit_gpu_memory_utilization_ratio{{{HERE}}}", f"memory of {GPU}"),
                    ],
                    unit="percentunit",
                ),
                Panel(
                    title="Memory",
                    asks=[
                        (f"qwenkit_gpu_memory_used_bytes{{{HERE}}}", GPU),
                        (f"qwenkit_gpu_memory_total_bytes{{{HERE}}}", f"{GPU}, all"),
                    ],
                    unit="bytes",
                ),
                Panel(
                    title="Power",
                    asks=[
                        (f"qwenkit_gpu_power_watts{{{HERE}}}", GPU),
                        (f"qwenkit_gpu_power_limit_watts{{{HERE}}}", f"{GPU}, limit"),
                    ],
                    unit="watt",
                ),
                Panel(
                    title="Temperature",
                    asks=[(f"qwenkit_gpu_temperature_celsius{{{HERE}}}", GPU)],
                    unit="celsius",
                ),
                Panel(
                    title="Clock",
                    asks=[(f"qwenkit_gpu_sm_clock_hertz{{{HERE}}}", GPU)],
                    unit="hertz",
                ),
            ),
        ),
    ),
)

DCGM = "gpu {{gpu}} ({{modelName}})"
CONTAINER = 'name!="", instance=~"$instance"'


def container_rate(metric: str) -> str:
    """What is added in a second to a counter of cAdvisor's, by container."""
    return f"sum by (name) (rate({metric}{{{CONTAINER}}}[$__rate_interval]))"


EXPORTERS = Dashboard(
    uid="exporters",
    title="GPUs and containers (exporters)",
    says=(
        "Not qwenkit's own: measures of NVIDIA's dcgm-exporter and of cAdvisor, which run with the "
        "profile `exporters`. Empty without them."
    ),
    instances="up",
    rows=(
        Row(
            "GPUs, by dcgm-exporter",
            (
                Panel(
                    title="Utilisation",
                    asks=[(f"DCGM_FI_DEV_GPU_UTIL{{{HERE}}} / 100", DCGM)],
                    unit="percentunit",
                ),
                Panel(
                    title="Memory",
                    asks=[(f"DCGM_FI_DEV_FB_USED{{{HERE}}} * 1048576", DCGM)],
                    unit="bytes",
                ),
                Panel(
                    title="Power",
                    asks=[(f"DCGM_FI_DEV_POWER_USAGE{{{HERE}}}", DCGM)],
                    unit="watt",
                ),
                Panel(
                    title="Temperature",
                    asks=[(f"DCGM_FI_DEV_GPU_TEMP{{{HERE}}}", DCGM)],
                    unit="celsius",
                ),
                Panel(
                    title="Errors of the driver (Xid)",
                    asks=[(f"DCGM_FI_DEV_XID_ERRORS{{{HERE}}}", DCGM)],
                    says="The number of the last one.",
                ),
            ),
        ),
        Row(
            "Containers, by cAdvisor",
            (
                Panel(
                    title="Processor",
                    asks=[
                        (
                            container_rate("container_cpu_usage_seconds_total"),
                            "{{name}}",
                        )
                    ],
                    says="Cores in use.",
                ),
                Panel(
                    title="Memory",
                    asks=[
                        (
                            f"sum by (name) (container_memory_working_set_bytes{{{CONTAINER}}})",
                            "{{name}}",
                        )
                    ],
                    unit="bytes",
                ),
                Panel(
                    title="Network",
                    asks=[
                        (
                            container_rate(f"container_network_{way}_bytes_total"),
                            f"{{{{name}}}}, {word}",
                        )
                        for way, word in (("receive", "received"), ("transmit", "sent"))
                    ],
                    unit="Bps",
                ),
                Panel(
                    title="Restarts",
                    asks=[
                        (
                            f"changes(container_start_time_seconds{{{CONTAINER}}}[1h])",
                            "{{name}}",
                        )
                    ],
                    says="In the hour before.",
                ),
            ),
        ),
    ),
)

DASHBOARDS = (SERVING, AGENT, MACHINE, EXPORTERS)


def as_grafana(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.says,
        "tags": ["qwenkit"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_choice(dashboard.instances)]},
        "panels": _panels(dashboard.rows),
    }


def _choice(metric: str) -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "server",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({metric}, instance)", "refId": "instance"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: Sequence[Row]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    x = y = height = 0
    for row in rows:
        y, x, height = y + height, 0, 0
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        made.append(
            {"id": len(made) + 1, "type": "row", "title": row.title, "gridPos": place, "panels": []}
        )
        y += 1
        for panel in row.panels:
            if x + panel.wide > WIDTH:
                y, x = y + height, 0
            height = 4 if panel.kind == "stat" else 8
            place = {"x": x, "y": y, "w": panel.wide, "h": height}
            made.append(_panel(len(made) + 1, panel, place))
            x += panel.wide
    return made


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "stacking": stacking}
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": DATASOURCE,
                "expr": ask,
                "legendFormat": name,
            }
            for i, (ask, name) in enumerate(panel.asks)
        ],
    }
    if panel.kind == "stat":
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    else:
        made["options"] = {"tooltip": {"mode": "multi"}, "legend": {"displayMode": "list"}}
    return made


def main() -> int:
    """Write the dashboards, or say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args().check
    stale = [each.uid for each in DASHBOARDS if not _settle(each, check=check)]
    for uid in stale:
        print(f"{uid}.json is stale: run python compose/monitoring/dashboards.py", file=sys.stderr)
    return 1 if stale else 0


def _settle(dashboard: Dashboard, *, check: bool) -> bool:
    path = FOLDER / f"{dashboard.uid}.json"
    wanted = json.dumps(as_grafana(dashboard), indent=2) + "\n"
    if check:
        return path.is_file() and path.read_text(encoding="utf-8") == wanted
    path.write_text(wanted, encoding="utf-8")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
