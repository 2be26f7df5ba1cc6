"""Who answers which request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from qwenkit.cluster.affinity import PROMPTS
from qwenkit.cluster.routes import Kind, kind_of, may_repeat
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

CHANGES_NOTHING = {"/admin/mcp/servers/test"}
"""What an admin may post that only looks."""


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Methods and paths, `{name}` for a parameter of whichever kind."""
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            yield method, route.path_format or ""


def test_whatever_an_admin_can_change_is_changed_at_every_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {
        (method, path.replace("{name}", "x"))
        for method, path in routes_of(create_app(Settings.load()))
        if method in ("POST", "DELETE", "PUT", "PATCH")
        and (path.startswith("/admin/") or path.endswith("_lora_adapter"))
        and path not in CHANGES_NOTHING
    }
    assert len(changes) >= 8
    assert {kind_of(*each) for each in changes} == {Kind.EACH}
    assert {kind_of("POST", path) for path in CHANGES_NOTHING} == {Kind.ANY}


def test_every_route_that_computes_prompts_is_told_apart_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    served = {path for method, path in routes_of(create_app(Settings.load())) if method == "POST"}
    computes = {
        path
        for path in served
        if path.endswith(("completions", "responses", "messages", "infill", "rerank", "embeddings"))
    }
    assert computes == set(PROMPTS)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/chat/completions", Kind.ANY),
        ("GET", "/v1/models", Kind.ANY),
        ("GET", "/admin/adapters", Kind.ANY),
        ("POST", "/agent/threads/1/runs/stream", Kind.HOME),
        ("GET", "/mcp", Kind.SESSION),
        ("GET", "/metrics", Kind.GATHER),
        ("GET", "/admin/status", Kind.GATHER),
        ("DELETE", "/admin/adapters/a/b", Kind.EACH),
        ("POST", "/v1/responses", Kind.ANY),
        ("GET", "/v1/responses/resp_1", Kind.ANY),
        ("DELETE", "/v1/responses/resp_1", Kind.GATHER),
    ],
)
def test_each_kind_of_request_has_its_place(method: str, path: str, kind: Kind) -> None:
    assert kind_of(method, path) is kind


def test_a_rating_whose_answer_was_lost_is_not_given_twice() -> None:
    assert not may_repeat("POST", "/v1/feedback")
    assert may_repeat("GET", "/v1/feedback/stats")
    assert may_repeat("POST", "/v1/chat/completions")
