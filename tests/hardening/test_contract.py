"""What `/openapi.json` promises, put to the test by schemathesis with made-up requests.

Requests that fit the document and requests that do not go to every operation. No answer may be a
5xx but a 503 that says when to come again, none may have a status, a type, headers or a shape that
the document does not tell, and what does not fit must be refused.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.python import asgi
from schemathesis.specs.openapi import checks

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

ADMIN_KEY = "admin-key"
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
PATIENCE_S = 60
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


def load(spec: Any, *, name: str | None, progress: Any, observer: Any) -> ChatModel:
    backend = ScriptedBackend({"": "<think>\n\n</think>\n\nYes."}, n_slots=4, n_ctx=8192)
    engine = Engine(backend, max_queue=64, observer=observer).start()
    template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
    return ChatModel(name or "scripted", engine, template)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("contract")
    given = {"qwenkit_home": folder / "home", "log_dir": folder / "logs"}
    keys = {"api_keys": "user-key", "admin_api_keys": ADMIN_KEY}
    app = create_app(
        Settings(_env_file=None, **given, **keys), load=load, fits=lambda spec, progress: True
    )
    document = app.openapi()
    for operations in document["paths"].values():
        for operation in operations.values():
            # It stands for every status, so with it none is unexpected.
            del operation["responses"]["default"]
    return app


@pytest.fixture(scope="module")
def schema(app: FastAPI) -> Iterator[Any]:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror("no network here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        yield schemathesis.openapi.from_asgi("/openapi.json", app, headers=HEADERS)
        asgi.shutdown_lifespans()


def faults_of(operation: Any, cases: SearchStrategy[Any], n: int, *, seeded: bool) -> list[str]:
    """What is wrong with the answers to some of the cases."""
    found: list[str] = []

    @settings(
        max_examples=n,
        database=None,
        deadline=None,
        derandomize=seeded,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(cases)
    def ask(case: Any) -> None:
        reply = case.call(headers=HEADERS, timeout=PATIENCE_S)
        told = f"{operation.label}: {reply.status_code} {reply.text[:300]} of {case.body!r:.300}"
        is_busy = reply.status_code == 503 and "retry-after" in reply.headers
        if reply.status_code >= 500 and not is_busy:
            found.append(told)
            return
        try:
            case.validate_response(reply, checks=CHECKS, headers=HEADERS)
        except FailureGroup as exc:
            found.extend(f"{each.title} {each.message} {told}" for each in exc.exceptions)
        except Failure as exc:
            found.append(f"{exc.title} {exc.message} {told}")

    with suppress(Unsatisfiable):  # an operation of which nothing can be sent wrong
        ask()
    return found


def all_faults(operations: list[Any], n: int, *, seeded: bool) -> list[str]:
    return [
        fault
        for operation in operations
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        for fault in faults_of(
            operation, operation.as_strategy(generation_mode=mode), n, seeded=seeded
        )
    ]


def operations_of(schema: Any) -> list[Any]:
    return [each.ok() for each in schema.get_all_operations()]


def test_no_made_up_request_gets_an_answer_that_the_document_does_not_promise(schema: Any) -> None:
    operations = operations_of(schema.exclude(path_regex="^/agent/"))
    assert len(operations) > 40
    assert all_faults(operations, 2, seeded=True) == []


@pytest.mark.slow
def test_nor_do_thousands_of_them(schema: Any) -> None:
    assert all_faults(operations_of(schema), 50, seeded=False) == []
