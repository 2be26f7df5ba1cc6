"""A Langfuse that lives in this process: it takes and refuses what the real one takes and refuses.

Its rules are those of Langfuse's OpenAPI document and of the schemas of server 4.16. It answers
over a real socket, and the real SDK gets along with it (`test_sdk.py`).
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from qwenkit.feedback.langfuse.client import LangfuseClient
from qwenkit.feedback.langfuse.history import History
from qwenkit.feedback.records import (
    AdapterUsed,
    AnswerText,
    Call,
    Durations,
    Interaction,
    Rating,
    RequestOptions,
    TokenCounts,
    ToolRun,
)
from qwenkit.settings import LangfuseSpec

SECRET = "sk-lf-secret"
NUMBERS = count()
MOMENT = "2026-11-25T14:00:00.000000Z"
OBSERVATION_TYPES = {"span", "generation", "tool", "agent", "chain", "event"}
JSON_ATTRIBUTES = re.compile(
    r"langfuse\.observation\.(model\.parameters|usage_details|cost_details|completion_start_time)"
)
KNOWN_ATTRIBUTES = re.compile(
    r"langfuse\.(observation|trace|experiment)\.[a-z_.]+|langfuse\.(environment|release|version)"
    r"|langfuse\.internal\.[a-z_]+|user\.id|session\.id|public_key"
)
FIELD_GROUPS = {"details", "subject", "annotation"}


class Refusal(Exception):
    """What the stand-in does not take."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Span:
    """A span as it was decoded."""

    trace_id: str
    id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    scope: str

    def metadata(self, name: str) -> Any:
        return self.attributes.get(f"langfuse.observation.metadata.{name}")

    def json(self, name: str) -> Any:
        return json.loads(self.attributes[f"langfuse.observation.{name}"])


@dataclass
class Langfuse:
    """What the stand-in holds, and how it behaves.

    `failures` are statuses of the next answers; `refused_scores` are ids that it does not take;
    after `refuse_after` requests it refuses all. It answers nothing while `open` is not set, and
    everything with `strange_answer` where there is one.
    """

    url: str = ""
    public_key: str = ""
    spans: dict[str, Span] = field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    run_items: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    refused_scores: set[str] = field(default_factory=set)
    retry_after: str | None = None
    refuse_after: int | None = None
    strange_answer: Any = None
    open: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def observations(self, kind: str) -> list[Span]:
        return [
            each
            for each in self.spans.values()
            if each.attributes["langfuse.observation.type"] == kind
        ]

    def annotate(self, score_id: str, **facts: Any) -> None:
        """Let a person judge something on Langfuse's pages."""
        self.scores[score_id] = {
            "id": score_id,
            "projectId": "project",
            "source": "ANNOTATION",
            "timestamp": MOMENT,
            "environment": "default",
            "createdAt": MOMENT,
            "updatedAt": MOMENT,
            "comment": None,
            "configId": "config",
            "metadata": {},
            "authorUserId": "user-7",
            "queueId": None,
            **facts,
        }


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: the second would wait for the first one's acknowledgement.
    wbufsize = -1
    langfuse: Langfuse

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.langfuse.open.wait(timeout=20):
            return
        parts = urlsplit(self.path)
        try:
            with self.langfuse.lock:
                self.langfuse.requests.append(f"{method} {parts.path}")
                self._refuse_strangers()
                most = self.langfuse.refuse_after
                if most is not None and len(self.langfuse.requests) > most:
                    raise Refusal(400, "as the test wants it")
                if self.langfuse.failures:
                    raise Refusal(self.langfuse.failures.pop(0), "as the test wants it")
                if self.langfuse.strange_answer is not None:
                    self._answer(200, self.langfuse.strange_answer)
                    return
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                status, answer = self._route(method, parts.path, query, body)
        except Refusal as refusal:
            status, answer = refusal.status, {"message": str(refusal), "error": "Refused"}
        self._answer(status, answer)

    def _answer(self, status: int, answer: Any) -> None:
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if self.langfuse.retry_after is not None:
            self.send_header("Retry-After", self.langfuse.retry_after)
        self.end_headers()
        self.wfile.write(payload)

    def _refuse_strangers(self) -> None:
        keys = f"{self.langfuse.public_key}:{SECRET}"
        expected = base64.b64encode(keys.encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            raise Refusal(
                401, "Invalid credentials. Confirm that you've configured the right host."
            )

    def _route(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        last = unquote(path.rsplit("/", 1)[-1])
        match method, path:
            case "POST", "/api/public/otel/v1/traces":
                return self._take_spans(body)
            case "POST", "/api/public/ingestion":
                return self._take_events(json.loads(body))
            case "DELETE", _ if path.startswith("/api/public/scores/"):
                self.langfuse.deleted.append(last)
                self.langfuse.scores.pop(last, None)
                return 202, {"message": "Score deletion queued"}
            case "GET", "/api/public/v3/scores":
                return 200, self._list_scores(query)
            case "POST", "/api/public/v2/datasets":
                return 200, self._put_dataset(json.loads(body))
            case "GET", _ if path.startswith("/api/public/v2/datasets/"):
                return 200, self._dataset(last)
            case "POST", "/api/public/dataset-items":
                return 200, self._put_item(json.loads(body))
            case "GET", "/api/public/dataset-items":
                return 200, self._list_items(query)
            case "POST", "/api/public/dataset-run-items":
                return 200, self._put_run_item(json.loads(body))
        raise Refusal(404, f"no route {method} {path}")

    def _take_spans(self, body: bytes) -> tuple[int, Any]:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        if "application/x-protobuf" not in self.headers.get("Content-Type", ""):
            raise Refusal(400, "Invalid content type")
        if "gzip" in self.headers.get("Content-Encoding", ""):
            body = gzip.decompress(body)
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        spans = [
            decoded(span, scope.scope.name)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        for span in spans:
            check_span(span)
            self.langfuse.spans[f"{span.trace_id}/{span.id}"] = span
        return 200, {}

    def _take_events(self, body: Any) -> tuple[int, Any]:
        if not isinstance(body.get("batch"), list):
            raise Refusal(400, "Invalid request data")
        successes, errors = [], []
        for event in body["batch"]:
            try:
                self._take_event(event)
                successes.append({"id": event["id"], "status": 201})
            except Refusal as refusal:
                errors.append(
                    {
                        "id": event["id"],
                        "status": refusal.status,
                        "message": "Invalid request data",
                        "error": str(refusal),
                    }
                )
        return 207, {"successes": successes, "errors": errors}

    def _take_event(self, event: dict[str, Any]) -> None:
        if event.get("type") != "score-create":
            raise Refusal(400, f"unexpected event {event.get('type')}")
        datetime.fromisoformat(event["timestamp"])
        score = event["body"]
        check_score(score)
        if score["id"] in self.langfuse.refused_scores:
            raise Refusal(400, "as the test wants it")
        self.langfuse.scores[score["id"]] = {
            **score,
            "projectId": "project",
            "source": "API",
            "timestamp": event["timestamp"],
            "createdAt": event["timestamp"],
            "updatedAt": event["timestamp"],
            "environment": score.get("environment", "default"),
            "subject": {
                "kind": "observation",
                "id": score.get("observationId"),
                "traceId": score.get("traceId"),
            },
        }

    def _list_scores(self, query: dict[str, str]) -> dict[str, Any]:
        limit = int(query.get("limit", "50"))
        if limit > 100:
            raise Refusal(400, "limit must be at most 100")
        groups = set(filter(None, query.get("fields", "").split(",")))
        if not groups <= FIELD_GROUPS:
            raise Refusal(400, f"unknown fields {groups - FIELD_GROUPS}")
        sources = query.get("source", "API,ANNOTATION,EVAL").upper().split(",")
        found = [
            score
            for score in self.langfuse.scores.values()
            if score["source"] in sources and score["timestamp"] >= query.get("fromTimestamp", "")
        ]
        start = int(base64.urlsafe_b64decode(query["cursor"])) if "cursor" in query else 0
        meta: dict[str, Any] = {"limit": limit}
        if start + limit < len(found):
            meta["cursor"] = base64.urlsafe_b64encode(str(start + limit).encode()).decode()
        page = found[start : start + limit]
        return {"data": [shown(score, groups) for score in page], "meta": meta}

    def _put_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        if not body.get("name"):
            raise Refusal(400, "name is required")
        self.langfuse.datasets[body["name"]] = {
            "id": f"dataset-{body['name']}",
            "projectId": "project",
            "createdAt": MOMENT,
            "updatedAt": MOMENT,
            "metadata": None,
            "description": None,
            **body,
        }
        return self.langfuse.datasets[body["name"]]

    def _dataset(self, name: str) -> dict[str, Any]:
        if name not in self.langfuse.datasets:
            raise Refusal(404, "Dataset not found")
        return self.langfuse.datasets[name]

    def _put_item(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self._dataset(body.get("datasetName", ""))
        if len(body.get("id", "")) > 255:
            raise Refusal(400, "Id must be at most 255 characters")
        if "sourceObservationId" in body and "sourceTraceId" not in body:
            raise Refusal(400, "sourceObservationId needs sourceTraceId")
        there = self.langfuse.items.get(body["id"])
        if there is not None and there["datasetName"] != body["datasetName"]:
            raise Refusal(404, "the id belongs to another dataset")
        self.langfuse.items[body["id"]] = {
            "status": "ACTIVE",
            "datasetId": dataset["id"],
            "createdAt": MOMENT,
            "updatedAt": MOMENT,
            "mediaReferences": [],
            "input": None,
            "expectedOutput": None,
            "metadata": None,
            **body,
        }
        return self.langfuse.items[body["id"]]

    def _list_items(self, query: dict[str, str]) -> dict[str, Any]:
        page, limit = int(query.get("page", "1")), int(query.get("limit", "50"))
        found = [
            item
            for item in self.langfuse.items.values()
            if item["datasetName"] == query["datasetName"]
        ]
        return {
            "data": found[(page - 1) * limit : page * limit],
            "meta": {
                "page": page,
                "limit": limit,
                "totalItems": len(found),
                "totalPages": -(-len(found) // limit),
            },
        }

    def _put_run_item(self, body: dict[str, Any]) -> dict[str, Any]:
        if not body.get("traceId") or not body.get("runName"):
            raise Refusal(400, "traceId and runName are required")
        if body["datasetItemId"] not in self.langfuse.items:
            raise Refusal(404, "Dataset item not found")
        made = {
            "id": f"run-item-{len(self.langfuse.run_items)}",
            "datasetRunId": f"run-{body['runName']}",
            "datasetRunName": body["runName"],
            "createdAt": MOMENT,
            "updatedAt": MOMENT,
            **body,
        }
        self.langfuse.run_items.append(made)
        return made


def decoded(span: Any, scope: str) -> Span:
    if len(span.trace_id) != 16 or len(span.span_id) != 8:
        raise Refusal(400, "traceId and spanId are required on every span")
    return Span(
        trace_id=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        name=span.name,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes={each.key: value_of(each.value) for each in span.attributes},
        scope=scope,
    )


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return getattr(value, kind)


def check_span(span: Span) -> None:
    """What the contract says of a span's attributes."""
    if span.start_ns <= 0 or span.end_ns < span.start_ns:
        raise Refusal(400, "a span ends after it began")
    unknown = [name for name in span.attributes if not KNOWN_ATTRIBUTES.fullmatch(name)]
    if unknown:
        raise Refusal(400, f"unknown attributes {unknown}")
    if span.attributes.get("langfuse.observation.type") not in OBSERVATION_TYPES:
        raise Refusal(400, "an observation has a type")
    for name, value in span.attributes.items():
        if JSON_ATTRIBUTES.fullmatch(name):
            json.loads(value)
        if name in ("user.id", "session.id", "langfuse.trace.name") and len(value) > 200:
            raise Refusal(400, f"{name} is longer than 200 characters")
    usage = span.attributes.get("langfuse.observation.usage_details")
    if usage is not None and not all(
        isinstance(each, int) and each >= 0 for each in json.loads(usage).values()
    ):
        raise Refusal(400, "usage is counted")


def check_score(score: dict[str, Any]) -> None:
    """What `PostScoresBody` of the server says."""
    value, kind = score.get("value"), score.get("dataType")
    is_sound = {
        "NUMERIC": isinstance(value, int | float) and not isinstance(value, bool),
        "BOOLEAN": value in (0, 1) and not isinstance(value, bool),
        "CATEGORICAL": isinstance(value, str),
        "CORRECTION": isinstance(value, str) and "configId" not in score,
        "TEXT": isinstance(value, str) and 1 <= len(value) <= 500,
    }
    if not score.get("name"):
        raise Refusal(400, "name is required")
    if not is_sound.get(str(kind), False):
        raise Refusal(400, f"{value!r} is no {kind}")
    if not score.get("traceId") or score.get("sessionId"):
        raise Refusal(400, "Provide exactly one of traceId, sessionId or datasetRunId")


def shown(score: dict[str, Any], groups: set[str]) -> dict[str, Any]:
    """A score with the fields that were asked for."""
    names = ["id", "projectId", "name", "value", "dataType", "source", "timestamp"]
    names += ["environment", "createdAt", "updatedAt"]
    if "details" in groups:
        names += ["comment", "configId", "metadata"]
    if "annotation" in groups:
        names += ["authorUserId", "queueId"]
    if "subject" in groups:
        names.append("subject")
    found = {name: score[name] for name in names if name in score}
    if found["dataType"] == "BOOLEAN":
        found["value"] = bool(found["value"])
    return found


@pytest.fixture
def langfuse() -> Iterator[Langfuse]:
    pytest.importorskip("langfuse")
    # The SDK keeps one client a key for as long as the process runs.
    state = Langfuse(public_key=f"pk-lf-{next(NUMBERS)}")
    state.open.set()
    handler = type("StandIn", (Handler,), {"langfuse": state})
    server = Server(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.open.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def spec(langfuse: Langfuse) -> LangfuseSpec:
    return LangfuseSpec(
        public_key=langfuse.public_key,
        secret_key=SECRET,
        base_url=langfuse.url,
        environment="testing",
        release="1.2.3",
        flush_at=8,
        flush_interval_s=0.02,
    )


@pytest.fixture
def client(spec: LangfuseSpec) -> Iterator[LangfuseClient]:
    with LangfuseClient(spec, pauses_s=(0.0, 0.0)) as client:
        yield client


def make_answer(answer_id: str = "chatcmpl-1", **facts: Any) -> Interaction:
    """An answer with everything that an answer can have."""
    return replace(
        Interaction(
            id=answer_id,
            created_at=MOMENT,
            source="api",
            model="qwen3-8b",
            prompt_hash="p" * 64,
            finish_reason="stop",
            usage=TokenCounts(prompt=20, cached=8, completion=12, reasoning=5),
            request_id=f"request-{answer_id}",
            thread_id="thread-1",
            parent_id="chatcmpl-0",
            user="ada",
            fingerprint="fp",
            adapter=AdapterUsed(name="polite", version="abc123", scale=0.5),
            template_hash="t" * 12,
            messages=({"role": "user", "content": "Where is Oslo?"},),
            options=RequestOptions(enable_thinking=True, max_tokens=100, stop=("END",)),
            sampling={"temperature": 0.6, "top_p": 0.95, "top_k": 20, "logit_bias": {}},
            answer=AnswerText(
                content="In Norway.",
                reasoning_content="Think of a map.",
                tool_calls=(Call(id="call_1", name="map", arguments='{"city":"Oslo"}'),),
            ),
            timings=Durations(queue_s=0.25, prefill_s=0.5, decode_s=1.25, total_s=2.5),
        ),
        **facts,
    )


def make_rating(rating_id: str = "rating-1", **facts: Any) -> Rating:
    given = {"answer_id": "chatcmpl-1", "source": "ui", "rater": "bob", "created_at": MOMENT}
    return Rating(id=rating_id, **(given | facts))


def make_tool_run(run_id: str = "call_1", **facts: Any) -> ToolRun:
    given: dict[str, Any] = {
        "created_at": "2026-11-25T14:00:03.000000Z",
        "name": "map",
        "arguments": '{"city":"Oslo"}',
        "result": "Norway",
        "is_error": False,
        "duration_s": 0.5,
        "approved": True,
        "request_id": "request-chatcmpl-1",
        "thread_id": "thread-1",
        "answer_id": "chatcmpl-1",
    }
    return ToolRun(id=run_id, **(given | facts))


@pytest.fixture
def an_answer() -> Callable[..., Interaction]:
    return make_answer


@pytest.fixture
def a_rating() -> Callable[..., Rating]:
    return make_rating


@pytest.fixture
def a_tool_run() -> Callable[..., ToolRun]:
    return make_tool_run


class Finder:
    """Histories in memory."""

    def __init__(self) -> None:
        self.answers: dict[str, Interaction] = {}
        self.ratings: list[Rating] = []
        self.closed = False

    def __call__(self, answer_id: str) -> History | None:
        answer = self.answers.get(answer_id)
        if answer is None:
            return None
        return History(answer, tuple(r for r in self.ratings if r.answer_id == answer_id))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def finder() -> Finder:
    return Finder()
