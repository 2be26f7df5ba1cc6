"""What `/metrics` says after this and that has happened."""

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import get_args

import httpx2
import psutil
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from prometheus_client.parser import text_string_to_metric_families

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.feedback.langfuse.outcome import Lost
from qwenkit.server.metrics.labels import OTHER, BoundedLabel

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
LOCAL = "http://127.0.0.1:8000"


async def scrape(client):
    page = (await client.get("/metrics")).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples[name, tuple(sorted(labels.items()))]


async def test_tokens_and_latencies_are_counted(client, ask):
    usage = (await client.post("/v1/chat/completions", json=ask("hello", n=2))).json()["usage"]
    seen = await scrape(client)
    assert value(seen, "qwenkit_generated_tokens_total") == usage["completion_tokens"]
    assert value(seen, "qwenkit_prompt_tokens_total") == usage["prompt_tokens"]
    assert value(seen, "qwenkit_choices_total", outcome="stop") == 2
    assert value(seen, "qwenkit_time_to_first_token_seconds_count") >= 1
    assert value(seen, "qwenkit_inter_token_latency_seconds_count") > 2
    assert value(seen, "qwenkit_step_duration_seconds_count") > 2


async def test_reused_tokens_are_counted(client, ask):
    await client.post("/v1/chat/completions", json=ask("hello"))
    again = (await client.post("/v1/chat/completions", json=ask("hello"))).json()["usage"]
    cached = again["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0
    assert value(await scrape(client), "qwenkit_cached_tokens_total") == cached


async def test_the_engines_state_is_shown(client, backend):
    seen = await scrape(client)
    assert value(seen, "qwenkit_slots") == backend.capabilities.n_slots
    assert value(seen, "qwenkit_kv_cells") == backend.capabilities.n_cells
    assert value(seen, "qwenkit_slots_used") == 0
    assert value(seen, "qwenkit_queue_length") == 0


async def test_requests_are_counted_by_route_and_status_never_by_url(client, ask):
    await client.post("/v1/chat/completions", json=ask("hello"))
    await client.post("/v1/chat/completions", json={})
    await client.get("/v1/models/one")
    await client.get("/v1/models/two")
    await client.get("/nothing/one")
    await client.get("/nothing/two")
    seen = await scrape(client)
    requests = {
        labels: count for (name, labels), count in seen.items() if name == "qwenkit_requests_total"
    }
    assert requests == {
        (("route", "/v1/chat/completions"), ("status", "200")): 1,
        (("route", "/v1/chat/completions"), ("status", "400")): 1,
        (("route", "/v1/models/{model_id:path}"), ("status", "404")): 2,
        (("route", "other"), ("status", "404")): 2,
    }
    assert value(seen, "qwenkit_request_duration_seconds_count", route="other") == 2


async def test_every_answer_has_a_request_id(client):
    made = (await client.get("/healthz")).headers["x-request-id"]
    other = (await client.get("/nothing")).headers["x-request-id"]
    assert made != other
    reply = await client.get("/healthz", headers={"X-Request-Id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("unsound", ["", "x" * 129, "a b", "a\tb", "<script>", "é".encode()])
async def test_a_request_id_that_could_do_harm_is_replaced(client, unsound):
    reply = await client.get("/healthz", headers={"X-Request-Id": unsound})
    assert reply.headers["x-request-id"] not in (unsound, "")


async def test_two_servers_in_one_process_count_apart(make_app, run):
    async with run(make_app()) as one, run(make_app()) as two:
        await one.get("/healthz")
        assert (
            "qwenkit_requests_total",
            (("route", "/healthz"), ("status", "200")),
        ) not in await scrape(two)


async def test_bodies_are_counted_in_bytes(client, ask):
    sent = json.dumps(ask("hello")).encode()
    reply = await client.post(CHAT, content=sent, headers={"Content-Type": "application/json"})
    seen = await scrape(client)
    assert value(seen, "qwenkit_request_bytes_total", route=CHAT) == len(sent)
    assert value(seen, "qwenkit_response_bytes_total", route=CHAT) == len(reply.content)


async def test_a_request_is_in_flight_until_its_answer_has_ended(client, ask, backend):
    assert value(await scrape(client), "qwenkit_requests_in_flight") == 1  # the scrape itself
    backend.hold()
    asking = asyncio.create_task(client.post(CHAT, json=ask("hello")))
    await asyncio.to_thread(backend.wait_until_held)
    assert value(await scrape(client), "qwenkit_requests_in_flight") == 2
    backend.release()
    await asking
    assert value(await scrape(client), "qwenkit_requests_in_flight") == 1


async def test_a_failed_request_is_not_in_flight_any_more(client):
    await client.get("/nothing")
    await client.post(CHAT, json={})
    assert value(await scrape(client), "qwenkit_requests_in_flight") == 1


async def test_a_prompt_is_a_hit_when_any_of_it_was_reused(client, ask):
    await client.post(CHAT, json=ask("hello"))
    seen = await scrape(client)
    assert value(seen, "qwenkit_prompts_total", cache="hit") == 0
    assert value(seen, "qwenkit_prompts_total", cache="miss") == 1
    await client.post(CHAT, json=ask("hello"))
    seen = await scrape(client)
    assert value(seen, "qwenkit_prompts_total", cache="hit") == 1
    assert value(seen, "qwenkit_queue_wait_seconds_count") == 2


async def test_what_ended_badly_is_there_at_zero_so_that_the_first_time_is_an_increase(client):
    seen = await scrape(client)
    for name, labels in {
        "qwenkit_reloads_total": {"outcome": "failed"},
        "qwenkit_choices_total": {"outcome": "error"},
        "qwenkit_adapter_loads_total": {"outcome": "left_out"},
        "qwenkit_agent_runs_total": {"outcome": "error"},
        "qwenkit_trace_spans_total": {"outcome": "failed"},
    }.items():
        assert value(seen, name, **labels) == 0
    lost = {"sink": "log", "kind": "rating", "outcome": "failed"}
    assert value(seen, "qwenkit_feedback_records_total", **lost) == 0
    for reason in get_args(Lost):
        assert value(seen, "qwenkit_langfuse_records_lost_total", reason=reason) == 0
    dropped = {"sink": "log", "kind": "batch", "outcome": "dropped"}
    assert value(seen, "qwenkit_feedback_records_total", **dropped) == 0


async def test_the_served_model_is_named_with_what_it_is(client, backend):
    seen = await scrape(client)
    (labels,) = (dict(each) for name, each in seen if name == "qwenkit_model_info")
    assert labels["model"] == "scripted"
    assert labels["fingerprint"] == backend.facts.fingerprint
    assert value(seen, "qwenkit_ready") == 1
    assert value(seen, "qwenkit_model_context_tokens") == backend.capabilities.n_ctx


async def test_a_server_without_a_model_is_not_ready_and_says_so(make_app, run):
    loading = threading.Event()
    async with run(make_app(before_load=loading.wait), wait=False) as client:
        seen = await scrape(client)
        loading.set()
    assert value(seen, "qwenkit_ready") == 0
    assert not [name for name, _ in seen if name == "qwenkit_model_info"]


async def test_adapters_are_counted_by_name(
    make_app, run, models, ask, write_adapter, adapters_dir
):
    async with run(make_app(models=models, lora_dirs=str(adapters_dir))) as client:
        path = str(write_adapter("poet"))
        await client.post("/admin/adapters", json={"name": "poet", "path": path})
        lost = {"name": "lost", "path": str(adapters_dir / "lost.gguf")}
        assert (await client.post("/admin/adapters", json=lost)).status_code == 404
        usage = (await client.post(CHAT, json=ask("hello", model="poet"))).json()["usage"]
        await client.post(CHAT, json=ask("hello"))
        seen = await scrape(client)
        await client.delete("/admin/adapters/poet")
        gone = await scrape(client)
    tokens = "qwenkit_adapter_tokens_total"
    assert value(seen, "qwenkit_adapter_prompts_total", adapter="poet") == 1
    assert value(seen, tokens, adapter="poet", kind="prompt") == usage["prompt_tokens"]
    assert value(seen, tokens, adapter="poet", kind="generated") == usage["completion_tokens"]
    assert value(seen, "qwenkit_adapter_loads_total", outcome="loaded") == 1
    assert value(seen, "qwenkit_adapter_loads_total", outcome="failed") == 1
    assert value(gone, "qwenkit_adapter_loads_total", outcome="unloaded") == 1
    assert [dict(each)["adapter"] for name, each in seen if name == "qwenkit_adapter_info"] == [
        "poet"
    ]
    assert not [name for name, _ in gone if name == "qwenkit_adapter_info"]


def test_names_beyond_the_most_share_a_label():
    label = BoundedLabel(2)
    assert [label(each) for each in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]


async def test_what_is_kept_in_ordinary_memory_is_shown(make_app, run, models, ask, scripted):
    models.makers = {None: lambda: scripted("yes", n_slots=1, n_ctx=256, saves_states=True)}
    async with run(make_app(models=models)) as client:
        for letter in "abcd":
            await client.post(CHAT, json=ask(letter * 40, max_tokens=4))
        seen = await scrape(client)
    assert value(seen, "qwenkit_ram_cache_states") > 0
    held, most = (value(seen, f"qwenkit_ram_cache_{name}bytes") for name in ("", "limit_"))
    assert 0 < held < most


async def test_the_agents_runs_steps_and_tools_are_counted(make_app, run, models):
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "17*23"}}\n</tool_call>'
    answers = {"": "<think>\n\n</think>\n\nNo.", "sum": call, "391": "<think>\n\n</think>\n\n391."}
    models.makers = {None: lambda: ScriptedBackend(answers, n_slots=2, n_ctx=8192)}
    async with run(make_app(models=models, agent_allowed_tools="*")) as client:
        given = {"messages": [{"type": "human", "content": "sum"}]}
        body = {"assistant_id": "agent", "input": given}
        assert (await client.post("/agent/runs/wait", json=body)).status_code == 200
        bad = {**body, "config": {"configurable": {"model": "nobody"}}}
        await client.post("/agent/runs/wait", json=bad)
        seen = await scrape(client)
    assert value(seen, "qwenkit_agent_runs_total", outcome="success") == 1
    assert value(seen, "qwenkit_agent_runs_total", outcome="error") == 1
    assert value(seen, "qwenkit_agent_run_duration_seconds_count") == 2
    assert value(seen, "qwenkit_agent_steps_total") == 3
    assert value(seen, "qwenkit_agent_tool_calls_total", outcome="success") == 1
    assert value(seen, "qwenkit_agent_tool_duration_seconds_count") == 1
    assert value(seen, "qwenkit_agent_runs_active") == 0


async def test_calls_of_our_tools_over_mcp_are_counted(make_app, run):
    app = make_app()
    async with (
        run(app) as client,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http,
        Client(streamable_http_client(f"{LOCAL}/mcp", http_client=http)) as caller,
    ):
        await caller.call_tool("ask", {"question": "hello"})
        await caller.call_tool("ask", {"question": "hello", "adapter": "nobody"})
        seen = await scrape(client)
    assert value(seen, "qwenkit_mcp_served_calls_total", tool="ask", outcome="success") == 1
    assert value(seen, "qwenkit_mcp_served_calls_total", tool="ask", outcome="error") == 1


async def test_calls_of_mcp_servers_are_counted_by_server(make_app, run, tmp_path):
    program = Path(__file__).parent.parent / "mcp" / "plain_server.py"
    servers = {
        "tools": {"command": sys.executable, "args": [str(program)]},
        "dead": {"command": "/no/such/program"},
        "off": {"command": "x", "disabled": True},
    }
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    app = make_app(mcp_config=config)
    async with run(app) as client:
        await app.state.mcp.settled()
        added = await app.state.mcp.call("add", {"a": 1, "b": 2})
        assert added.text == "3"
        assert (await app.state.mcp.call("add", {"a": "x", "b": 2})).is_error
        seen = await scrape(client)
    assert value(seen, "qwenkit_mcp_calls_total", server="tools", outcome="success") == 1
    assert value(seen, "qwenkit_mcp_calls_total", server="tools", outcome="error") == 1
    assert value(seen, "qwenkit_mcp_call_duration_seconds_count", server="tools") == 2
    up = {dict(each)["server"]: n for (name, each), n in seen.items() if name.endswith("server_up")}
    assert up == {"tools": 1, "dead": 0}


async def test_the_process_is_measured_under_the_usual_names(client):
    process = psutil.Process()
    seen = await scrape(client)
    assert value(seen, "process_resident_memory_bytes") == pytest.approx(
        process.memory_info().rss, rel=0.2
    )
    assert value(seen, "process_start_time_seconds") == pytest.approx(process.create_time(), abs=1)
    assert 0 < value(seen, "process_cpu_seconds_total") <= sum(process.cpu_times()[:2]) + 1
    assert 0 < value(seen, "process_open_fds") < value(seen, "process_max_fds")
    assert value(seen, "qwenkit_memory_available_bytes") > 0
    assert value(seen, "qwenkit_memory_total_bytes") == psutil.virtual_memory().total
