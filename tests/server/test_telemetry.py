"""Traces as a collector gets them: over HTTP, by OpenTelemetry's own protocol."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.errors import InvalidSettings, MissingExtra
from qwenkit.server.telemetry.spans import current_span, inside
from qwenkit.settings import Settings

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
SECRET = "the cat is called Schroedinger"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SUM = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "17*23"}}\n</tool_call>'


@dataclass
class Collector:
    """Takes traces, or refuses them."""

    url: str = ""
    status: int = 200
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def exports(self) -> list[Any]:
        return [
            ExportTraceServiceRequest.FromString(body)
            for path, _, body in self.requests
            if path == "/v1/traces"
        ]

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for export in self.exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def span(self, name: str) -> Any:
        (found,) = (each for each in self.spans if each.name == name)
        return found

    @property
    def resource(self) -> dict[str, Any]:
        return attributes(self.exports[0].resource_spans[0].resource)


def attributes(of: Any) -> dict[str, Any]:
    def value(given: Any) -> Any:
        kind = given.WhichOneof("value")
        if kind == "array_value":
            return [value(each) for each in given.array_value.values]
        return getattr(given, kind)

    return {each.key: value(each.value) for each in of.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            made.requests.append((self.path, dict(self.headers), body))
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def traced(make_app: Any, run: Any, collector: Collector) -> Any:
    """A server that sends its traces to the collector, at the latest when it ends."""

    def start(headers: dict[str, str] | None = None, **settings: Any) -> Any:
        given = {"otel_exporter_otlp_endpoint": collector.url, **settings}
        return run(make_app(**given), **headers or {})

    return start


async def test_a_request_is_a_span_with_the_answer_inside_of_it(traced, collector, ask):
    async with traced() as client:
        reply = await client.post(CHAT, json=ask("hello"), headers={"X-Request-Id": "mine-1"})
    http, chat = collector.span(f"POST {CHAT}"), collector.span("chat scripted")
    assert chat.parent_span_id == http.span_id
    assert chat.trace_id == http.trace_id
    assert http.parent_span_id == b""
    assert (http.kind, chat.kind) == (http.SPAN_KIND_SERVER, http.SPAN_KIND_INTERNAL)
    said = attributes(http)
    assert said["http.request.method"] == "POST"
    assert said["http.route"] == said["url.path"] == CHAT
    assert said["http.response.status_code"] == 200
    assert said["qwenkit.request_id"] == "mine-1"
    said, usage = attributes(chat), reply.json()["usage"]
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] == "qwenkit"
    assert said["gen_ai.request.model"] == "scripted"
    assert said["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert said["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert said["gen_ai.response.finish_reasons"] == ["stop"]
    assert http.start_time_unix_nano <= chat.start_time_unix_nano
    assert chat.end_time_unix_nano <= http.end_time_unix_nano


async def test_the_callers_trace_goes_on(traced, collector, ask):
    async with traced() as client:
        sent = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        await client.post(CHAT, json=ask("hello", stream=True), headers=sent)
    http = collector.span(f"POST {CHAT}")
    assert (http.trace_id.hex(), http.parent_span_id.hex()) == (TRACE, CALLER)
    assert collector.span("chat scripted").trace_id.hex() == TRACE


async def test_what_the_caller_does_not_trace_is_not_traced(traced, collector, ask):
    async with traced() as client:
        sent = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
        await client.post(CHAT, json=ask("hello"), headers=sent)
    assert collector.spans == []


@pytest.mark.parametrize("unsound", ["", "x", f"00-{'0' * 32}-{CALLER}-01", f"ff-{TRACE}-x-01"])
async def test_a_traceparent_that_is_none_begins_a_new_trace(traced, collector, unsound):
    async with traced() as client:
        await client.get("/v1/models", headers={"traceparent": unsound})
    assert collector.span("GET /v1/models").parent_span_id == b""


async def test_no_span_has_content_or_keys(traced, collector, ask):
    keys = {"api_keys": "user-key-1", "admin_api_keys": "admin-key-1"}
    headers = {"Authorization": "Bearer user-key-1"}
    async with traced(headers, **keys) as client:
        body = ask(SECRET, user="somebody@example.org", stop=["Schroedinger"])
        await client.post(CHAT, json=body)
        await client.post("/v1/completions", json={"prompt": SECRET})
        await client.get(f"/nothing/{SECRET}?key=user-key-1")
    assert len(collector.spans) == 5
    sent = b"".join(body for _, _, body in collector.requests)
    for secret in (b"Schroedinger", b"I do not know", b"key-1", b"somebody"):
        assert secret not in sent


async def test_a_refused_request_is_no_error_of_the_servers_and_a_bug_is(make_app, run, collector):
    app = make_app(otel_exporter_otlp_endpoint=collector.url)

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError

    async with run(app) as client:
        await client.get("/bug")
        await client.post(CHAT, json={})
    bug_span, refused = collector.span("GET /bug"), collector.span(f"POST {CHAT}")
    assert bug_span.status.code == bug_span.status.STATUS_CODE_ERROR
    assert attributes(bug_span)["error.type"] == "500"
    assert refused.status.code == refused.status.STATUS_CODE_UNSET
    assert attributes(refused)["http.response.status_code"] == 400


async def test_a_chat_that_can_not_be_answered_names_its_error(traced, collector, ask):
    async with traced() as client:
        await client.post(CHAT, json=ask("hello", tool_choice="required"))
        await client.post(CHAT, json=ask("la " * 9000))
    failed = [each for each in collector.spans if each.name == "chat scripted"]
    assert [attributes(each).get("error.type") for each in failed] == [
        "InvalidRequest",
        "ContextOverflow",
    ]


async def test_an_answer_whose_client_goes_is_a_cancelled_chat(
    make_app, listening, collector, ask, until, backend
):
    import httpx

    with listening(make_app(otel_exporter_otlp_endpoint=collector.url)) as url:
        with httpx.stream("POST", url + CHAT, json=ask("long", stream=True)) as reply:
            next(reply.iter_lines())
        until(lambda: 'outcome="cancelled"} 1.0' in httpx.get(f"{url}/metrics").text)
    assert attributes(collector.span("chat scripted"))["error.type"] == "cancelled"


async def test_continued_texts_and_embeddings_have_spans_too(traced, collector, backend):
    async with traced() as client:
        body = {"prompt": ["Once upon", "def add("], "max_tokens": 3, "temperature": 0}
        usage = (await client.post("/v1/completions", json=body)).json()["usage"]
        reply = await client.post("/v1/embeddings", json={"input": ["one", "two"]})
    said = attributes(collector.span("text_completion scripted"))
    assert said["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert said["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert said["gen_ai.request.max_tokens"] == 3
    assert said["gen_ai.request.temperature"] == 0
    assert said["gen_ai.response.finish_reasons"] == ["length", "length"]
    said = attributes(collector.span("embeddings scripted"))
    assert said["gen_ai.usage.input_tokens"] == reply.json()["usage"]["prompt_tokens"]
    assert said["gen_ai.embeddings.dimension.count"] == backend.capabilities.n_embd


async def test_a_run_of_the_agent_holds_its_answers_and_its_tools(traced, collector, models):
    answers = {"": "<think>\n\n</think>\n\nNo.", "sum": SUM, "391": "<think>\n\n</think>\n\n391."}
    models.makers = {None: lambda: ScriptedBackend(answers, n_slots=2, n_ctx=8192)}
    async with traced(models=models, agent_allowed_tools="*") as client:
        given = {"messages": [{"type": "human", "content": "sum"}]}
        body = {"assistant_id": "agent", "input": given}
        assert (await client.post("/agent/runs/wait", json=body)).status_code == 200
    run = collector.span("invoke_agent agent")
    assert run.parent_span_id == collector.span("POST /agent/runs/wait").span_id
    inside_of_it = sorted(
        each.name for each in collector.spans if each.parent_span_id == run.span_id
    )
    assert inside_of_it == ["chat scripted", "chat scripted", "execute_tool calculator"]
    tool = attributes(collector.span("execute_tool calculator"))
    assert tool["gen_ai.tool.name"] == "calculator"
    assert b"391" not in b"".join(body for _, _, body in collector.requests)


async def test_a_call_of_an_mcp_servers_tool_is_a_span_of_the_request(
    traced, collector, ask, models, tmp_path
):
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 20, "b": 3}}\n</tool_call>'
    answers = {"": "<think>\n\n</think>\n\nNo.", "add?": call, "23": "<think>\n\n</think>\n\n23."}
    models.makers = {None: lambda: ScriptedBackend(answers, n_slots=2, n_ctx=8192)}
    program = Path(__file__).parent.parent / "mcp" / "plain_server.py"
    server = {"command": sys.executable, "args": [str(program)], "alwaysAllow": ["add"]}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"tools": server}}), encoding="utf-8")
    async with traced(models=models, mcp_config=config) as client:
        await client.state.mcp.settled()
        asked = ask("add?", tools=[{"type": "mcp", "server_label": "tools"}])
        assert (await client.post(CHAT, json=asked)).status_code == 200
    called = collector.span("tools/call add")
    assert called.parent_span_id == collector.span(f"POST {CHAT}").span_id
    assert called.kind == called.SPAN_KIND_CLIENT
    assert attributes(called)["qwenkit.mcp.server"] == "tools"
    assert called.start_time_unix_nano < called.end_time_unix_nano


async def test_an_answer_over_mcp_is_a_chat_of_its_request(make_app, run, collector):
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    app = make_app(otel_exporter_otlp_endpoint=collector.url)
    async with (
        run(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http,
        Client(streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http)) as client,
    ):
        await client.call_tool("ask", {"question": "hello"})
    parent = collector.span("chat scripted").parent_span_id
    assert parent in [each.span_id for each in collector.spans if each.name == "POST /mcp"]


async def test_traces_say_which_server_they_are_of_and_carry_its_headers(traced, collector):
    async with traced(
        otel_service_name="qwen-eu",
        otel_resource_attributes="deployment.environment.name=production,team=a%2Cb",
        otel_exporter_otlp_headers="x-token=abc%3D, x-tenant=t1",
    ) as client:
        await client.get("/healthz")
    assert collector.resource["service.name"] == "qwen-eu"
    assert collector.resource["deployment.environment.name"] == "production"
    assert collector.resource["team"] == "a,b"
    assert collector.resource["service.version"]
    _, headers, _ = collector.requests[0]
    assert (headers["x-token"], headers["x-tenant"]) == ("abc=", "t1")


async def test_spans_are_counted_by_what_became_of_them(traced, collector, caplog):
    async with traced() as client:
        await client.get("/healthz")
        metrics = client.state.serving.metrics
    assert b'qwenkit_trace_spans_total{outcome="sent"} 1.0' in metrics.render()
    collector.status = 400
    async with traced() as client:
        await client.get("/healthz")
        metrics = client.state.serving.metrics
    assert b'qwenkit_trace_spans_total{outcome="failed"} 1.0' in metrics.render()


async def test_other_traces_of_the_process_and_ours_do_not_mix(traced, collector, ask):
    theirs = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    with provider.get_tracer("langfuse-sdk").start_as_current_span("theirs") as outer:
        async with traced() as client:
            await client.post(CHAT, json=ask("hello"))
        assert trace.get_current_span() is outer
    provider.shutdown()
    assert [each.name for each in theirs.get_finished_spans()] == ["theirs"]
    assert collector.span(f"POST {CHAT}").parent_span_id == b""
    assert all(each.name != "theirs" for each in collector.spans)
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


async def test_a_log_line_names_the_span_that_it_is_of(traced, collector):
    import io

    from qwenkit.server.logs import written_to

    log = io.StringIO()
    with written_to(log, form="json", level="info"):
        async with traced() as client:
            await client.get("/v1/models")
    (line,) = (json.loads(each) for each in log.getvalue().splitlines() if "access" in each)
    span = collector.span("GET /v1/models")
    assert (line["trace_id"], line["span_id"]) == (span.trace_id.hex(), span.span_id.hex())


async def test_nothing_is_traced_unless_a_setting_says_where_to(make_app, run, ask, collector):
    for settings in ({}, {"otel_exporter_otlp_endpoint": collector.url, "otel_sdk_disabled": True}):
        app = make_app(**settings)
        assert app.state.telemetry is None
        async with run(app) as client:
            await client.post(CHAT, json=ask("hello"))
    assert collector.requests == []


async def test_inside_of_nothing_there_is_no_span():
    with inside("x", {}) as span:
        assert span is None
        assert current_span() is None


async def test_a_sampler_may_drop_everything(traced, collector):
    async with traced(otel_traces_sampler="traceidratio", otel_traces_sampler_arg=0.0) as client:
        await client.get("/healthz")
    assert collector.requests == []


def spec_of(**settings: Any) -> Any:
    return Settings(_env_file=None, **settings).telemetry_spec()


def test_the_address_for_traces_wins_over_the_one_for_everything():
    both = {"otel_exporter_otlp_endpoint": "http://a:4318/"}
    assert spec_of(**both).endpoint == "http://a:4318/v1/traces"
    both["otel_exporter_otlp_traces_endpoint"] = "https://b/x"
    assert spec_of(**both).endpoint == "https://b/x"


@pytest.mark.parametrize("url", ["collector:4317", "ftp://x", "http://", "http://me:key@x"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(InvalidSettings, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        spec_of(otel_exporter_otlp_endpoint=url)


def test_headers_that_are_no_pairs_are_refused_without_being_shown():
    with pytest.raises(InvalidSettings, match="OTEL_EXPORTER_OTLP_HEADERS") as caught:
        spec_of(otel_exporter_otlp_endpoint="http://a", otel_exporter_otlp_headers="sekret")
    assert "sekret" not in str(caught.value)
    assert "sekret" not in repr(
        spec_of(otel_exporter_otlp_endpoint="http://a", otel_exporter_otlp_headers="k=sekret")
    )


def test_another_protocol_is_refused_and_not_ignored(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(InvalidSettings, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        Settings.load()


def test_a_missing_package_names_its_extra(make_app, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(MissingExtra, match=r"opentelemetry") as caught:
        make_app(otel_exporter_otlp_endpoint="http://127.0.0.1:1")
    assert caught.value.extra == "otel"
