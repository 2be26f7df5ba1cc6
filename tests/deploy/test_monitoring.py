"""Dashboards, alerts and Prometheus' configuration: they name what is there, and they work.

Those marked `deploy` run promtool and Prometheus themselves, of Debian's package prometheus.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "compose" / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
RULES = PROMETHEUS / "rules" / "qwenkit.yml"
RULE_TESTS = PROMETHEUS / "tests" / "qwenkit.test.yml"
CONFIG = PROMETHEUS / "prometheus.yml"

OURS = re.compile(r"\b((?:qwenkit|process)_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
BY = re.compile(r"\b(?:by|without|ignoring|on)\s*\(([^)]*)\)")
WORD = re.compile(r"\b[A-Za-z_]\w*\b")
GIVEN = {"instance", "job"}
"""Labels that Prometheus adds to everything it reads."""
FUNCTIONS = {
    "and", "avg", "by", "changes", "count", "deriv", "histogram_quantile", "ignoring", "increase",
    "max_over_time", "min", "or", "rate", "sum", "time", "vector", "without",
}  # fmt: skip
UNSEEN = {
    "qwenkit_build_info",
    "qwenkit_adapter_info",
    "qwenkit_model_context_tokens",
    "qwenkit_model_parameters",
    "process_virtual_memory_bytes",
}
"""Measures that no panel shows and no rule uses: facts to look up or to join with."""


def load(path: Path) -> ModuleType:
    """A program of the repository that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def labels_by_series() -> dict[str, set[str]]:
    """What a server exports, by the names that queries use."""
    measures = load(ROOT / "docs" / "metrics_page.py").measures()
    found = {}
    for measure in measures:
        for series in measure.series:
            bucket = {"le"} if series.endswith("_bucket") else set()
            found[series] = {*measure.labels, *bucket}
    return found


def dashboards() -> list[tuple[str, dict[str, Any]]]:
    files = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
    return [(each.stem, json.loads(each.read_text(encoding="utf-8"))) for each in files]


def panel_queries() -> list[tuple[str, str]]:
    """Every query of every panel, with where it stands."""
    return [
        (f"{name}: {panel['title']}", target["expr"])
        for name, dashboard in dashboards()
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alert_queries() -> list[tuple[str, str]]:
    return [(rule["alert"], rule["expr"]) for rule in rules()]


def foreign(query: str) -> set[str]:
    """Names in a query that are neither ours nor the language's."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", BY.sub("", query))
    return {
        word
        for word in WORD.findall(bare)
        if word not in FUNCTIONS and not word.startswith(("qwenkit_", "process_"))
    }


@pytest.mark.parametrize(("where", "query"), [*panel_queries(), *alert_queries()])
def test_what_a_query_names_is_exported_with_those_labels(where, query, labels_by_series):
    used: set[str] = set()
    for series, selector in OURS.findall(query):
        assert series in labels_by_series, f"{where} asks for {series}, which nobody exports"
        has = labels_by_series[series] | GIVEN
        assert set(LABEL.findall(selector)) <= has, f"{where}: {series} has no such label"
        used |= has
    for names in BY.findall(query):
        wanted = {each.strip() for each in names.split(",")}
        assert not used or wanted <= used, f"{where} sorts by a label that is not there"


@pytest.mark.parametrize(("where", "query"), [*panel_queries(), *alert_queries()])
def test_what_others_export_is_named_only_where_that_is_said(where, query):
    others = foreign(query)
    if where.startswith("exporters: "):
        assert all(each.startswith(("DCGM_FI_", "container_")) for each in others)
        assert others
        assert not OURS.findall(query)
    else:
        assert others <= {"up"}


def test_every_measure_is_shown_or_watched(labels_by_series):
    everything = " ".join(query for _, query in (*panel_queries(), *alert_queries()))
    named = {series for series, _ in OURS.findall(everything)}
    names = {re.sub(r"_(bucket|sum|count)$", "", each) for each in labels_by_series}
    shown = {re.sub(r"_(bucket|sum|count)$", "", each) for each in named}
    assert names - shown == UNSEEN


def test_the_dashboards_are_as_their_program_makes_them():
    maker = load(MONITORING / "dashboards.py")
    made = {each.uid: maker.as_grafana(each) for each in maker.DASHBOARDS}
    assert dict(dashboards()) == made


@pytest.mark.parametrize(("name", "dashboard"), dashboards())
def test_grafana_can_tell_the_panels_apart_and_place_them(name, dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert dashboard["uid"] == name
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


def test_every_panel_reads_the_data_source_that_grafana_is_given():
    folder = MONITORING / "grafana" / "provisioning"
    text = (folder / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    uids = {each["uid"] for each in yaml.safe_load(text)["datasources"]}
    for name, dashboard in dashboards():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                assert target["datasource"]["uid"] in uids, name


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_keeps_quiet():
    tests = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    seen: dict[str, set[bool]] = {}
    for test in tests:
        (expected,) = test["promql_expr_test"]
        alert = test["name"].partition(":")[0]
        assert f'alertname="{alert}"' in expected["expr"]
        seen.setdefault(alert, set()).add(bool(expected["exp_samples"]))
    assert seen == {alert: {True, False} for alert, _ in alert_queries()}


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_the_key_of_the_scrape_is_a_file_and_no_part_of_the_configuration():
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    (own,) = (each for each in config["scrape_configs"] if each["job_name"] == "qwenkit")
    assert own["authorization"] == {"credentials_file": "/run/secrets/metrics_api_key"}


def program(name: str) -> str:
    """A program on PATH."""
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed: apt install prometheus"
    return found


def run_tool(*arguments: str) -> str:
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.deploy
def test_promtool_accepts_the_rules_and_the_configuration(tmp_path):
    run_tool("check", "rules", str(RULES))
    run_tool("check", "config", str(changed_config(tmp_path, "127.0.0.1:1", "key")))


@pytest.mark.deploy
def test_every_alert_fires_and_keeps_quiet_where_it_should():
    run_tool("test", "rules", str(RULE_TESTS))


@pytest.mark.deploy
def test_tests_of_alerts_can_fail(tmp_path):
    text = RULE_TESTS.read_text(encoding="utf-8")
    turned = re.sub(r"exp_samples: \[\{.*\}\]", "exp_samples: []", text)
    turned = turned.replace("../rules/qwenkit.yml", str(RULES))
    path = tmp_path / "turned.yml"
    path.write_text(turned, encoding="utf-8")
    with pytest.raises(AssertionError, match="exp:"):
        run_tool("test", "rules", str(path))


def changed_config(folder: Path, target: str, key: str) -> Path:
    """The configuration of the Compose file, for a server elsewhere and in a hurry."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["global"] |= {
        "scrape_interval": "3s",
        "scrape_timeout": "3s",
        "evaluation_interval": "3s",
    }
    config["rule_files"] = [str(RULES)]
    secret = folder / "metrics_api_key"
    secret.write_text(key, encoding="utf-8")
    (own,) = (each for each in config["scrape_configs"] if each["job_name"] == "qwenkit")
    own["authorization"]["credentials_file"] = str(secret)
    own["static_configs"] = [{"targets": [target]}]
    config["scrape_configs"] = [own]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url).status_code == 200
    return False


def until(condition: Callable[[], bool], what: str, timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come in time"
        time.sleep(0.05)


@contextmanager
def running(command: list[str], folder: Path, ready: str, **variables: str) -> Iterator[None]:
    """A program, from when it answers at an address until it has ended."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, env={**os.environ, **variables}
        )
        try:
            until(
                lambda: process.poll() is not None or answers(ready), f"an answer of {command[0]}"
            )
            assert process.poll() is None, log.read_text(encoding="utf-8")
            yield
        finally:
            process.terminate()
            process.wait(60)


EMPTY = {
    # Nothing in the load below makes these: no adapter, no Langfuse, no collector, no GPU.
    "qwenkit_adapter_tokens_total",
    "qwenkit_adapter_prompts_total",
    "qwenkit_langfuse_records_lost_total",
    *(
        f"qwenkit_gpu_{each}"
        for each in (
            "utilization_ratio",
            "memory_utilization_ratio",
            "memory_used_bytes",
            "memory_total_bytes",
            "power_watts",
            "power_limit_watts",
            "temperature_celsius",
            "sm_clock_hertz",
        )
    ),
}


@pytest.mark.deploy
def test_every_panel_shows_something_of_a_server_that_works(tmp_path):
    port, own_port, key = free_port(), free_port(), "metrics-key"
    server, watcher = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{own_port}"
    tools = {
        "command": sys.executable,
        "args": [str(ROOT / "tests" / "mcp" / "plain_server.py")],
        "alwaysAllow": ["add"],
    }
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"tools": tools}}))
    settings = {
        "HOME": str(tmp_path),
        "PORT": str(port),
        "API_KEYS": key,
        "ADMIN_API_KEYS": "admin-key",
        "MCP_CONFIG": str(tmp_path / "mcp.json"),
        "AGENT_ALLOWED_TOOLS": "*",
        "N_THREADS": "1",
        "N_CTX": "1024",
        "N_PARALLEL": "4",
        "LOG_FORMAT": "json",
    }
    config = changed_config(tmp_path, f"127.0.0.1:{port}", key)
    watching = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{own_port}",
    ]
    serving = [sys.executable, "-m", "qwenkit", "serve"]
    with (
        running(serving, tmp_path, f"{server}/readyz", **settings),
        running(watching, tmp_path, f"{watcher}/-/ready"),
        httpx.Client(base_url=watcher, timeout=60) as prometheus,
    ):
        until(lambda: bool(ask(prometheus, 'up{job="qwenkit"} == 1')), "the first scrape")
        work(server)
        until(lambda: has_settled(prometheus), "the scrapes of what was done")
        work(server)
        missing = unanswered(prometheus)
        states = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    assert missing == {}
    kept = [rule for group in states for rule in group["rules"]]
    assert {rule["name"] for rule in kept} == {alert for alert, _ in alert_queries()}
    assert {rule["health"] for rule in kept} == {"ok"}
    assert {rule["name"] for rule in kept if rule["state"] == "firing"} <= {"QwenkitReloadFailed"}
    log = (tmp_path / Path(sys.executable).name).with_suffix(".log").read_text(encoding="utf-8")
    assert all(json.loads(line)["level"] for line in log.splitlines())


def ask(prometheus: httpx.Client, query: str) -> list[Any]:
    reply = prometheus.get("/api/v1/query", params={"query": query}).json()
    assert reply["status"] == "success", (query, reply)
    result: list[Any] = reply["data"]["result"]
    return result


def has_settled(prometheus: httpx.Client) -> bool:
    """Whether two scrapes have seen the last of what is done."""
    last = 'qwenkit_mcp_served_calls_total{outcome="success"}'
    found = ask(prometheus, f"count_over_time({last}[10m]) >= 2")
    return bool(found)


def unanswered(prometheus: httpx.Client) -> dict[str, str]:
    """Panels' queries that have no answer, but for those that can't."""
    missing = {}
    for where, query in panel_queries():
        named = {series for series, _ in OURS.findall(query)}
        if where.startswith("exporters: ") or named & EMPTY:
            continue
        filled = query.replace("$__rate_interval", "15m").replace("$instance", ".*")
        if not ask(prometheus, filled):
            missing[where] = filled
    return missing


def work(server: str) -> None:
    """Something of everything that a server does."""
    users = {"Authorization": "Bearer metrics-key"}
    admins = {"Authorization": "Bearer admin-key"}
    question = [{"role": "user", "content": "What is qwenkit?"}]
    with httpx.Client(base_url=server, headers=users, timeout=120) as client:
        for _ in range(3):
            asked = {"messages": question, "max_tokens": 48}
            assert client.post("/v1/chat/completions", json=asked).status_code == 200
        client.post("/v1/chat/completions", json={})
        client.post("/v1/completions", json={"prompt": "la la la la la la", "max_tokens": 32})
        calling = {
            "messages": [{"role": "user", "content": "add 20 and 3"}],
            "tools": [{"type": "mcp", "server_label": "tools", "allowed_tools": ["add"]}],
            "tool_choice": {"type": "function", "function": {"name": "add"}},
            "max_tokens": 200,
        }
        reply = client.post("/v1/chat/completions", json=calling)
        assert reply.status_code == 200, reply.text
        content = "What is 17*23? Use the calculator."
        given = {"messages": [{"type": "human", "content": content}]}
        body = {"assistant_id": "agent", "input": given}
        assert client.post("/agent/runs/wait", json=body).status_code == 200
        answer = client.post("/v1/chat/completions", json={"messages": question}).json()
        client.post("/v1/feedback", json={"answer_id": answer["id"], "thumb": "up"})
        client.post("/admin/reload", json={"n_parallel": 5}, headers=admins)
        client.post("/admin/reload", json={"n_parallel": 4}, headers=admins)
        call_over_mcp(client)


def call_over_mcp(client: httpx.Client) -> None:
    """Ask the model over `/mcp`, as the protocol has it since 2025."""
    accept = {"Accept": "application/json, text/event-stream"}

    def send(method: str, params: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return client.post("/mcp", json=body, headers={**accept, **headers})

    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    session = {"Mcp-Session-Id": send("initialize", hello, {}).headers["Mcp-Session-Id"]}
    client.post(
        "/mcp",
        json={"jsonrpc": "2.0", "method": "notifications/initialized"},
        headers={**accept, **session},
    )
    asked = {"name": "ask", "arguments": {"question": "What is qwenkit?", "max_tokens": 16}}
    assert send("tools/call", asked, session).status_code == 200
