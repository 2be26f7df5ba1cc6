"""Adding, trying and removing MCP servers at run time; the other server is our own `/mcp`."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

SERVERS = "/admin/mcp/servers"
HERE = {"mcp_allowed_networks": "127.0.0.1"}
PROGRAM = Path(__file__).parent.parent / "mcp" / "plain_server.py"


def body(url: str, **fields: Any) -> dict[str, Any]:
    return {"name": "other", "url": f"{url}/mcp", **fields}


async def test_a_server_is_added_used_and_removed(make_app, run, url):
    async with run(make_app(**HERE)) as client:
        added = (await client.post(SERVERS, json=body(url, always_allow=["ask"]))).json()
        tools = (await client.get("/v1/mcp/tools")).json()["servers"][0]["tools"]
        again = await client.post(f"{SERVERS}/other/test")
        gone = await client.delete(f"{SERVERS}/other")
        left = (await client.get(SERVERS)).json()["servers"]
    assert (added["name"], added["state"], added["origin"]) == ("other", "connected", "added")
    assert added["software"].startswith("qwenkit ")
    assert {tool["name"]: tool["allowed"] for tool in tools} == {
        "ask": True,
        "list_models": False,
        "load_adapter": False,
        "search_feedback": False,
        "export_feedback": False,
    }
    assert again.json()["state"] == "connected"
    assert gone.status_code == 200
    assert left == []


async def test_an_added_server_is_there_after_a_restart_and_its_headers_stay_secret(
    make_app, run, url, tmp_path
):
    headers = {"Authorization": "Bearer s3cret"}
    async with run(make_app(**HERE)) as client:
        reply = await client.post(SERVERS, json=body(url, headers=headers, timeout=7))
        listed = await client.get(SERVERS)
    file = tmp_path / "home" / "mcp.json"
    assert "s3cret" not in reply.text + listed.text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text(encoding="utf-8"))["mcpServers"]["other"]["timeout"] == 7
    app = make_app(**HERE)
    async with run(app) as client:
        await app.state.mcp.settled()
        assert (await client.get(SERVERS)).json()["servers"][0]["state"] == "connected"


async def test_a_server_is_tried_without_being_kept(make_app, run, url, tmp_path):
    async with run(make_app(**HERE)) as client:
        tried = (await client.post(f"{SERVERS}/test", json=body(url))).json()
        left = (await client.get(SERVERS)).json()["servers"]
    assert "ask" in [tool["name"] for tool in tried["tools"]]
    assert left == []
    assert not (tmp_path / "home" / "mcp.json").exists()


@pytest.mark.parametrize("path", [SERVERS, f"{SERVERS}/test"])
@pytest.mark.parametrize(
    "target",
    ["{url}", "http://localhost:{port}", "http://[::ffff:127.0.0.1]:{port}", "http://2130706433"],
)
async def test_a_server_on_a_private_address_is_refused(make_app, run, url, path, target):
    address = target.format(url=url, port=url.rpartition(":")[2])
    async with run(make_app()) as client:
        reply = await client.post(path, json=body(address))
        left = (await client.get(SERVERS)).json()["servers"]
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "url"
    assert left == []


async def test_a_server_remembered_from_kinder_days_is_still_checked(make_app, run, url):
    async with run(make_app(**HERE)) as client:
        await client.post(SERVERS, json=body(url))
    app = make_app()
    async with run(app) as client:
        await app.state.mcp.settled()
        (server,) = (await client.get(SERVERS)).json()["servers"]
    assert server["state"] in ("failed", "connecting")
    assert "127.0.0.1" in server["reason"]


async def test_a_server_that_does_not_answer_is_a_bad_gateway(make_app, run):
    async with run(make_app(**HERE)) as client:
        reply = await client.post(SERVERS, json=body("http://127.0.0.1:9"))
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "remote_unreachable"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "a/b"}, None),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "gopher://x"}, "url"),
        ({"type": "stdio"}, "type"),
        ({"command": "sh"}, "command"),
        ({"headers": {"A": "b\r\nC: d"}}, "headers.A"),
        ({"timeout": 0}, "timeout"),
    ],
)
async def test_a_wrong_field_is_named(make_app, run, url, change, param):
    async with run(make_app(**HERE)) as client:
        reply = await client.post(SERVERS, json=body(url) | change)
    assert reply.status_code == 400
    if param is not None:
        assert reply.json()["error"]["param"] == param


async def test_a_name_that_is_taken_or_not_there_is_told(make_app, run, url):
    async with run(make_app(**HERE)) as client:
        await client.post(SERVERS, json=body(url))
        assert (await client.post(SERVERS, json=body(url))).status_code == 400
        assert (await client.delete(f"{SERVERS}/nobody")).status_code == 404
        assert (await client.post(f"{SERVERS}/nobody/test")).status_code == 404


async def test_a_server_of_the_configuration_stays(make_app, run, tmp_path):
    path = tmp_path / "mcp.json"
    server = {"command": sys.executable, "args": [str(PROGRAM)]}
    path.write_text(json.dumps({"mcpServers": {"tools": server}}), encoding="utf-8")
    app = make_app(mcp_config=path)
    async with run(app) as client:
        reply = await client.delete(f"{SERVERS}/tools")
        assert reply.status_code == 400
        assert (await client.post(f"{SERVERS}/tools/test")).json()["state"] == "connected"
        assert (await client.post(SERVERS, json=body("http://x", name="tools"))).status_code == 400
