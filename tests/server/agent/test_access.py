"""Who may use the agent, from where, and when it is opened."""

import httpx
import pytest

pytestmark = pytest.mark.anyio

KEYS = {"api_keys": "user-key", "admin_api_keys": "admin-key"}
ORIGIN = {"Origin": "https://ui.example"}


async def test_a_server_whose_agent_nobody_uses_makes_no_database(make_app, run, tmp_path):
    async with run(make_app()) as client:
        await client.get("/healthz")
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-Api-Key": "wrong"}, 401),
        ({"X-Api-Key": "user-key"}, 200),
        ({"Authorization": "Bearer user-key"}, 200),
        ({"X-Api-Key": "admin-key"}, 200),
    ],
)
async def test_the_agent_needs_a_key_where_the_server_does(make_app, run, headers, status):
    async with run(make_app(**KEYS), **headers) as client:
        for method, path in (("GET", "/agent/info"), ("POST", "/agent/threads")):
            assert (await client.request(method, path, json={})).status_code == status


async def test_the_sdks_send_their_key_as_the_server_reads_it(live, say):
    from langgraph_sdk import get_client

    app = live(**KEYS)
    async with get_client(url=f"{app.state.url}/agent", api_key="user-key") as sdk:
        state = await sdk.runs.wait(None, "agent", input=say("hello"))
    assert state["messages"][-1]["content"] == "Hello there!"


async def test_a_page_of_a_configured_origin_may_send_and_read_what_clients_need(make_app, run):
    wanted = ("content-type", "x-api-key", "x-auth-scheme", "authorization", "last-event-id")
    preflight = {
        **ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ", ".join(wanted),
    }
    app = make_app(**KEYS, cors_origins="https://ui.example")
    async with run(app, **{"X-Api-Key": "user-key"}) as client:
        asked = await client.options("/agent/threads", headers=preflight)
        reply = await client.post("/agent/threads/search", json={}, headers=ORIGIN)
    assert asked.status_code == 200
    assert set(wanted) <= set(asked.headers["access-control-allow-headers"].lower().split(", "))
    assert reply.headers["access-control-allow-origin"] == "https://ui.example"
    exposed = reply.headers["access-control-expose-headers"].lower().split(", ")
    assert {"content-location", "x-pagination-total", "x-pagination-next"} <= set(exposed)


async def test_a_page_of_another_origin_can_not_start_a_run(make_app, run):
    async with run(make_app()) as client:
        plain = {"Content-Type": "text/plain", "Origin": "https://evil.example"}
        for path in ("/agent/runs", "/agent/runs/batch", "/agent/threads", "/agent/runs/cancel"):
            reply = await client.post(path, content=b"{}", headers=plain)
            assert reply.status_code == 415


async def test_info_says_what_there_is(make_app, run):
    async with run(make_app()) as client:
        info = (await client.get("/agent/info")).json()
        assert (await client.get("/agent/ok")).json() == {"ok": True}
    assert info["langgraph_py_version"].startswith("1.")
    assert info["flags"]["assistants"] is True
    assert info["flags"]["crons"] is False


async def test_a_server_that_ends_lets_go_of_who_listens_to_a_thread(live, connected, listening):
    app = live()
    async with connected(app) as sdk, httpx.AsyncClient(base_url=app.state.url) as client:
        thread_id = (await sdk.threads.create())["thread_id"]
        async with client.stream("GET", f"/agent/threads/{thread_id}/stream") as reply:
            lines = reply.aiter_lines()
            assert (await anext(lines)).startswith(":")
            app.state.agent.stop()
            assert not [line async for line in lines if line]
            refused = await client.post("/agent/runs", json={"assistant_id": "agent"})
            assert refused.status_code == 503
