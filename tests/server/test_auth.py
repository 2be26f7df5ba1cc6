import re

import pytest
from fastapi import Depends
from fastapi.routing import iter_route_contexts

from qwenkit.errors import InvalidSettings
from qwenkit.server.auth import OPEN_PATHS, KeyRing, Role, require_admin

pytestmark = pytest.mark.anyio

OPEN_ROUTES = OPEN_PATHS | {"/assets/{name:path}"}
KEYS = {"api_keys": "user-key,other-key", "admin_api_keys": "admin-key"}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def concrete(path):
    path = path.replace("{model_id:path}", "some/model").replace("{name:path}", "some/adapter")
    return re.sub(r"\{\w+\}", "x", path)


async def test_every_route_needs_a_key_unless_it_is_named_open(make_app, run):
    app = make_app(**KEYS)
    refused, answered = set(), set()
    async with run(app) as client:
        for route in iter_route_contexts(app.routes):
            assert "{" not in concrete(route.path), f"no example for {route.path}"
            for method in route.methods:
                reply = await client.request(method, concrete(route.path), json={})
                (refused if reply.status_code == 401 else answered).add(route.path)
    assert answered == OPEN_ROUTES
    assert {"/v1/chat/completions", "/v1/models", "/tokenize", "/openapi.json"} <= refused


USER_ROUTES = {
    "/v1/feedback",
    "/v1/feedback/ratings",
    "/openapi.json",
    "/v1/models",
    "/v1/models/{model_id:path}",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/lora-adapters",
    "/metrics",
    "/mcp",
    "/v1/mcp/tools",
}


async def test_every_route_needs_an_admins_key_unless_it_is_named_a_users(make_app, run):
    app = make_app(**KEYS)
    refused, answered = set(), set()
    async with run(app, **bearer("user-key")) as client:
        for route in iter_route_contexts(app.routes):
            for method in route.methods:
                reply = await client.request(method, concrete(route.path), json={})
                (refused if reply.status_code == 403 else answered).add(route.path)
    agents = {path for path in answered if path.startswith("/agent/")}
    assert {"/agent/threads", "/agent/runs/wait", "/agent/assistants/search"} <= agents
    assert answered - OPEN_ROUTES - agents == USER_ROUTES
    assert refused == {
        "/admin/reload",
        "/admin/status",
        "/admin/adapters",
        "/admin/adapters/{name:path}",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/admin/mcp/servers",
        "/admin/mcp/servers/test",
        "/admin/mcp/servers/{name:path}",
        "/admin/mcp/servers/{name:path}/test",
        "/v1/feedback/answers",
        "/v1/feedback/answers/{answer_id}",
        "/v1/feedback/export",
        "/v1/feedback/stats",
    }


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
