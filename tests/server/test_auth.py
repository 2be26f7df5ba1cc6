import re

import pytest
from fastapi import Depends
from fastapi.routing import APIRoute, iter_route_contexts

from qwenkit.errors import InvalidSettings
from qwenkit.feedback.label_studio.client import SECRET_HEADER
from qwenkit.server import openapi
from qwenkit.server.auth import KeyRing, Role, require_admin

pytestmark = pytest.mark.anyio

KEYS = {"api_keys": "user-key,other-key", "admin_api_keys": "admin-key"}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def concrete(path):
    path = path.replace("{model_id:path}", "some/model").replace("{name:path}", "some/adapter")
    return re.sub(r"\{\w+\}", "x", path)


OPEN = {
    "/": "GET HEAD",
    "/assets/{name:path}": "GET HEAD",
    "/health": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/v1/feedback/label-studio": "POST",
    "/v1/me": "GET",
}
FOR_USERS = {
    "/agent/assistants": "POST",
    "/agent/assistants/count": "POST",
    "/agent/assistants/search": "POST",
    "/agent/assistants/{assistant_id}": "DELETE GET PATCH",
    "/agent/assistants/{assistant_id}/graph": "GET",
    "/agent/assistants/{assistant_id}/latest": "POST",
    "/agent/assistants/{assistant_id}/schemas": "GET",
    "/agent/assistants/{assistant_id}/subgraphs": "GET",
    "/agent/assistants/{assistant_id}/subgraphs/{namespace}": "GET",
    "/agent/assistants/{assistant_id}/versions": "POST",
    "/agent/info": "GET",
    "/agent/ok": "GET",
    "/agent/runs": "POST",
    "/agent/runs/batch": "POST",
    "/agent/runs/cancel": "POST",
    "/agent/runs/stream": "POST",
    "/agent/runs/wait": "POST",
    "/agent/runs/{run_id}/stream": "GET",
    "/agent/threads": "POST",
    "/agent/threads/count": "POST",
    "/agent/threads/prune": "POST",
    "/agent/threads/search": "POST",
    "/agent/threads/{thread_id}": "DELETE GET PATCH",
    "/agent/threads/{thread_id}/copy": "POST",
    "/agent/threads/{thread_id}/history": "GET POST",
    "/agent/threads/{thread_id}/runs": "GET POST",
    "/agent/threads/{thread_id}/runs/stream": "POST",
    "/agent/threads/{thread_id}/runs/wait": "POST",
    "/agent/threads/{thread_id}/runs/{run_id}": "DELETE GET",
    "/agent/threads/{thread_id}/runs/{run_id}/cancel": "POST",
    "/agent/threads/{thread_id}/runs/{run_id}/join": "GET",
    "/agent/threads/{thread_id}/runs/{run_id}/stream": "GET",
    "/agent/threads/{thread_id}/state": "GET PATCH POST",
    "/agent/threads/{thread_id}/state/checkpoint": "POST",
    "/agent/threads/{thread_id}/state/{checkpoint_id}": "GET",
    "/agent/threads/{thread_id}/stream": "GET",
    "/apply-template": "POST",
    "/detokenize": "POST",
    "/infill": "POST",
    "/lora-adapters": "GET",
    "/mcp": "DELETE GET HEAD POST",
    "/metrics": "GET",
    "/openapi.json": "GET HEAD",
    "/rerank": "POST",
    "/tokenize": "POST",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/feedback": "POST",
    "/v1/feedback/ratings": "GET",
    "/v1/mcp/tools": "GET",
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
    "/v1/models": "GET",
    "/v1/models/{model_id:path}": "GET",
    "/v1/rerank": "POST",
    "/v1/responses": "POST",
    "/v1/responses/input_tokens": "POST",
    "/v1/responses/{response_id}": "DELETE GET",
    "/v1/responses/{response_id}/cancel": "POST",
    "/v1/responses/{response_id}/input_items": "GET",
    "/v2/rerank": "POST",
}
FOR_ADMINS = {
    "/admin/adapters": "GET POST",
    "/admin/adapters/{name:path}": "DELETE",
    "/admin/mcp/servers": "GET POST",
    "/admin/mcp/servers/test": "POST",
    "/admin/mcp/servers/{name:path}": "DELETE",
    "/admin/mcp/servers/{name:path}/test": "POST",
    "/admin/reload": "POST",
    "/admin/status": "GET",
    "/v1/feedback/answers": "GET",
    "/v1/feedback/answers/{answer_id}": "GET",
    "/v1/feedback/export": "GET",
    "/v1/feedback/stats": "GET",
    "/v1/load_lora_adapter": "POST",
    "/v1/unload_lora_adapter": "POST",
}
NEEDED = {Role.NOBODY: OPEN, Role.USER: FOR_USERS, Role.ADMIN: FOR_ADMINS}
"""Every route there is, by the least role that may call it; one that is not here fails the test."""
CALLERS = {
    "nobody": {},
    "a wrong key": bearer("wrong-key"),
    "a user": bearer("user-key"),
    "an admin": bearer("admin-key"),
}
SERVERS = {
    "no keys": ({}, dict.fromkeys(CALLERS, Role.ADMIN)),
    "user keys": (
        {"api_keys": "user-key"},
        dict.fromkeys(CALLERS, Role.NOBODY) | {"a user": Role.USER},
    ),
    "admin keys": (
        {"admin_api_keys": "admin-key"},
        dict.fromkeys(CALLERS, Role.USER) | {"an admin": Role.ADMIN},
    ),
    "both": (
        KEYS,
        dict.fromkeys(CALLERS, Role.NOBODY) | {"a user": Role.USER, "an admin": Role.ADMIN},
    ),
}
"""Settings, and what each caller is to such a server."""


def routes_of(app):
    """Every method of every route; a mounted application would stand there as `*`."""
    return [
        (method, route.path)
        for route in iter_route_contexts(app.routes)
        for method in sorted(route.methods or {"*"})
    ]


def listed_routes():
    return {
        (method, path): needed
        for needed, routes in NEEDED.items()
        for path, methods in routes.items()
        for method in methods.split()
    }


@pytest.mark.parametrize("server", SERVERS)
async def test_every_route_is_for_those_of_its_role_and_for_nobody_else(make_app, run, server):
    settings, roles = SERVERS[server]
    app = make_app(**settings, label_studio_webhook_secret="shared")
    app.openapi_schema = {}  # a second of work, and no matter here
    listed = listed_routes()
    assert set(routes_of(app)) == set(listed)
    wrong = []
    async with run(app, **{SECRET_HEADER: "shared"}) as client:
        for (method, path), needed in listed.items():
            for caller, role in roles.items():
                reply = await client.request(
                    method, concrete(path), json={}, headers=CALLERS[caller]
                )
                refusal = 401 if role is Role.NOBODY else 403
                expected = {200} if role >= needed else {refusal}
                got = {reply.status_code} if reply.status_code in (401, 403) else {200}
                if got != expected:
                    wrong.append((caller, method, path, reply.status_code))
    assert wrong == []


def test_the_document_tells_each_routes_role(make_app):
    listed = listed_routes()
    for route in iter_route_contexts(make_app(**KEYS).routes):
        if isinstance(route.original_route, APIRoute) and route.include_in_schema:
            for method in route.methods:
                assert openapi.role_of(route) is listed[method, route.path], route.path


async def test_a_path_that_is_no_route_does_not_tell_so_without_a_key(make_app, run):
    async with run(make_app(**KEYS)) as client:
        assert (await client.get("/nothing")).status_code == 401
        assert (await client.get("/healthz/x")).status_code == 401
        assert (await client.get("/v1/models/")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        bearer("user-key"),
        bearer("other-key"),
        bearer("admin-key"),
        {"Authorization": "bearer user-key"},
        {"X-Api-Key": "user-key"},
    ],
)
async def test_a_right_key_opens(make_app, run, headers):
    async with run(make_app(**KEYS), **headers) as client:
        assert (await client.get("/v1/models")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("user-keyx"),
        bearer("user-ke"),
        bearer("USER-KEY"),
        bearer("user-key,other-key"),
        {"Authorization": "user-key"},
        {"Authorization": "Basic dXNlci1rZXk="},
        {"X-Api-Key": ""},
        {"Authorization": b"Bearer \xff\xfe"},
    ],
)
async def test_any_other_key_is_refused_in_openais_shape(make_app, run, headers):
    async with run(make_app(**KEYS)) as client:
        reply = await client.get("/v1/models", headers=headers)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert "user-key" not in reply.text


def test_without_any_key_everyone_is_admin():
    ring = KeyRing(users=[], admins=[])
    assert not ring.needs_key
    assert ring.role("") is Role.ADMIN


def test_with_an_admin_key_only_everyone_may_use_and_one_may_change():
    ring = KeyRing(users=[], admins=["a"])
    assert not ring.needs_key
    assert (ring.role(""), ring.role("wrong"), ring.role("a")) == (Role.USER, Role.USER, Role.ADMIN)


def test_with_user_keys_only_nobody_is_admin():
    ring = KeyRing(users=["u"], admins=[])
    assert (ring.role(""), ring.role("u")) == (Role.NOBODY, Role.USER)


def test_a_key_in_both_lists_is_an_admins():
    assert KeyRing(users=["k"], admins=["k"]).role("k") is Role.ADMIN


@pytest.mark.parametrize(
    ("before", "after", "can"),
    [
        ("u", "u a", True),
        ("u a", "u", True),
        ("", "a", True),
        ("a", "a", True),
        ("a", "", False),
        ("", "u", False),
        ("a", "u a", False),
        ("u a", "a", False),
        ("u", "", False),
    ],
)
def test_a_ring_never_becomes_one_that_lets_those_without_a_key_do_more(before, after, can):
    def ring(names):
        return KeyRing(users=[n for n in names if n == "u"], admins=[n for n in names if n == "a"])

    assert ring(before).can_become(ring(after)) is can


@pytest.mark.parametrize(
    ("settings", "key", "status"),
    [
        (KEYS, "admin-key", 200),
        (KEYS, "user-key", 403),
        ({"api_keys": "user-key"}, "user-key", 403),
        ({"admin_api_keys": "admin-key"}, "admin-key", 200),
        ({"admin_api_keys": "admin-key"}, "any", 403),
        ({}, "any", 200),
    ],
)
async def test_a_route_for_admins_is_for_admins_only(make_app, run, settings, key, status):
    app = make_app(**settings)

    @app.post("/change", dependencies=[Depends(require_admin)])
    async def change():
        return {}

    async with run(app, **bearer(key)) as client:
        assert (await client.post("/change")).status_code == status


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
async def test_without_keys_a_host_name_that_is_not_ours_is_refused(client, host):
    reply = await client.get("/v1/models", headers={"Host": host})
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "forbidden"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
async def test_local_host_names_are_ours(client, host):
    assert (await client.get("/v1/models", headers={"Host": host})).status_code == 200


async def test_with_keys_any_host_name_will_do(make_app, run):
    async with run(make_app(**KEYS), **bearer("user-key")) as client:
        reply = await client.get("/v1/models", headers={"Host": "llm.example"})
    assert reply.status_code == 200


async def test_only_configured_origins_may_call_from_a_browser(make_app, run):
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    async with run(make_app(**KEYS, cors_origins="https://ui.example")) as client:
        ours = await client.options(
            "/v1/chat/completions", headers={"Origin": "https://ui.example", **preflight}
        )
        theirs = await client.options(
            "/v1/chat/completions", headers={"Origin": "https://evil.example", **preflight}
        )
    assert ours.status_code == 200
    assert ours.headers["access-control-allow-origin"] == "https://ui.example"
    assert "access-control-allow-credentials" not in ours.headers
    assert theirs.status_code == 400
    assert "access-control-allow-origin" not in theirs.headers


async def test_an_error_can_be_read_by_a_configured_origin(make_app, run):
    async with run(make_app(**KEYS, cors_origins="https://ui.example")) as client:
        reply = await client.get("/v1/models", headers={"Origin": "https://ui.example"})
    assert reply.status_code == 401
    assert reply.headers["access-control-allow-origin"] == "https://ui.example"


def test_any_origin_without_a_key_is_refused_at_the_start(make_app):
    with pytest.raises(InvalidSettings):
        make_app(cors_origins="*")
    make_app(cors_origins="*", api_keys="k")
