"""Connections to real servers: programs over stdio, and ports over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from qwenkit.errors import InvalidRequest, RemoteUnreachable, UnknownMcpServer
from qwenkit.mcp.client import McpConnections
from qwenkit.mcp.client.addresses import AddressGuard, AddressRefused, parse_networks
from qwenkit.mcp.client.config import HttpServer, StdioServer
from qwenkit.mcp.client.connection import Pace

pytestmark = pytest.mark.anyio

HERE = parse_networks(["127.0.0.1"])


@pytest.fixture
def connect(pace: Pace) -> Callable[..., Any]:
    """Connections that have settled."""

    @asynccontextmanager
    async def connected(*servers: Any, **options: Any) -> AsyncIterator[McpConnections]:
        async with McpConnections(servers, **{"pace": pace, **options}) as connections:
            await connections.settled()
            yield connections

    return connected


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def state(connections: McpConnections, name: str = "tools") -> str:
    return connections.server(name).state


async def test_a_programs_tools_are_listed_and_called(connect, program):
    allowed = program(allowed=frozenset({"add"}), hidden=frozenset({"die"}))
    async with connect(allowed) as connections:
        tools = {tool.name: tool for tool in connections.tools()}
        result = await connections.call("add", {"a": 2, "b": 3})
        status = connections.server("tools")
    assert (result.text, result.is_error) == ("5", False)
    assert tools["add"].allowed
    assert tools["add"].annotations.read_only
    assert tools["add"].annotations.title == "Sum"
    assert not tools["folder"].allowed
    assert tools["folder"].annotations.destructive
    assert "die" not in tools
    assert (status.state, status.kind) == ("connected", "stdio")
    assert (status.software, status.protocol) == ("plain-tools 1.2.3", "2025-06-18")


async def test_a_program_of_the_newest_protocol_is_used_the_same_way(connect, sdk_program):
    async with connect(sdk_program) as connections:
        result = await connections.call("add", {"a": 2, "b": 3})
        await connections.call("grow", {})
        await until(lambda: "grown" in {tool.name for tool in connections.tools()})
        status = connections.server("tools")
    assert (result.text, result.structured) == ("5", {"result": 5})
    assert status.protocol >= "2026"


async def test_a_tool_is_called_by_its_own_name(connect, web):
    async with connect(web.config()) as connections:
        assert (await connections.call("odd_name_", {})).text == "odd"


async def test_a_program_gets_its_variables_and_folder_and_none_of_ours(
    connect, program, tmp_path, monkeypatch
):
    monkeypatch.setenv("API_KEYS", "secret")
    async with connect(program(env={"GIVEN": "yes"}, cwd=str(tmp_path))) as connections:
        assert (await connections.call("variable", {"name": "GIVEN"})).text == "yes"
        assert (await connections.call("variable", {"name": "API_KEYS"})).text == ""
        assert (await connections.call("folder", {})).text == str(tmp_path.resolve())


async def test_what_goes_wrong_in_a_tool_is_a_result(connect, web):
    async with connect(web.config()) as connections:
        failed = await connections.call("fail", {"why": "because"})
        wrong = await connections.call("add", {"a": "x"})
        absent = await connections.call("nothing", {})
    assert failed.is_error
    assert wrong.is_error
    assert absent.is_error
    assert "nothing" in absent.text


async def test_a_hanging_tool_ends_at_its_time_limit_and_its_server_is_told(connect, web, tmp_path):
    mark = tmp_path / "cancelled"
    async with connect(web.config(timeout_s=0.3)) as connections:
        result = await connections.call("hang", {"cancelled": str(mark)})
        await until(mark.exists)
        after = await connections.call("add", {"a": 1, "b": 1}, timeout_s=10)
    assert result.is_error
    assert "0.3 s" in result.text
    assert after.text == "2"


async def test_cancelling_a_call_cancels_it_at_the_server(connect, web, tmp_path):
    started, cancelled = tmp_path / "started", tmp_path / "cancelled"
    marks = {"started": str(started), "cancelled": str(cancelled)}
    async with connect(web.config()) as connections:
        call = asyncio.create_task(connections.call("hang", marks))
        await until(started.exists)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(cancelled.exists)


async def test_a_huge_result_is_cut(connect, web):
    async with connect(web.config(), max_result_characters=1000) as connections:
        result = await connections.call("huge", {"n": 3_000_000})
    assert len(result.text) < 1100
    assert "2999000 of 3000000" in result.text
    assert result.structured is None


async def test_a_picture_is_told_in_words(connect, web):
    async with connect(web.config()) as connections:
        result = await connections.call("picture", {})
    assert result.text.startswith("a red square\n[image, image/png, ")


async def test_calls_of_one_server_run_side_by_side(connect, web):
    async with connect(web.config()) as connections:
        hanging = asyncio.create_task(connections.call("hang", {}))
        assert (await connections.call("add", {"a": 1, "b": 2})).text == "3"
        hanging.cancel()


async def test_a_new_tool_appears_when_the_server_says_so(connect, web):
    async with connect(web.config()) as connections:
        await connections.call("grow", {})
        await until(lambda: "grown" in {tool.name for tool in connections.tools()})
        assert (await connections.call("grown", {})).text == "new"


async def test_a_server_that_dies_in_a_call_fails_that_call_and_comes_back(connect, program):
    async with connect(program()) as connections:
        died = await connections.call("die", {})
        alive = await connections.call("add", {"a": 1, "b": 2})
    assert died.is_error
    assert alive.text == "3"


async def test_a_call_that_changes_nothing_is_tried_again_after_a_death(connect, program, tmp_path):
    async with connect(program()) as connections:
        result = await connections.call("die_once", {"mark": str(tmp_path / "mark")})
    assert result.text == "alive"


async def test_a_server_that_is_killed_while_idle_is_seen_and_started_again(connect, program):
    async with connect(program(), program("other")) as connections:
        first = int((await connections.call("tools__process", {})).text)
        os.kill(first, signal.SIGKILL)
        await until(lambda: state(connections) != "connected")
        assert (await connections.call("other__add", {"a": 1, "b": 1})).text == "2"
        await until(lambda: state(connections) == "connected")
        assert int((await connections.call("tools__process", {})).text) != first


async def test_a_name_stays_the_same_when_another_server_goes_down(connect, program, pace):
    slow = Pace(first_pause_s=60, connect_s=30)
    async with connect(program(), program("other"), pace=slow) as connections:
        os.kill(int((await connections.call("other__process", {})).text), signal.SIGKILL)
        await until(lambda: state(connections, "other") == "failed")
        names = {tool.name for tool in connections.tools()}
    assert "tools__add" in names
    assert "other__add" not in names


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (StdioServer(name="bad", command="/no/such/program"), "/no/such/program"),
        (StdioServer(name="bad", command=sys.executable, cwd="/no/such/folder"), "folder"),
        (
            StdioServer(
                name="bad",
                command=sys.executable,
                args=("-c", "import sys; sys.exit('I lack a key')"),
            ),
            "I lack a key",
        ),
        (HttpServer(name="bad", url="http://127.0.0.1:9/mcp"), "nothing answers"),
        (HttpServer(name="bad", url="http://127.0.0.1:9/sse", kind="sse"), "nothing answers"),
    ],
)
async def test_a_server_that_cannot_be_had_says_why_and_hurts_no_other(
    connect, program, server, reason
):
    async with connect(server, program()) as connections:
        status = connections.server("bad")
        result = await connections.call("add", {"a": 1, "b": 2})
    assert status.state in ("failed", "connecting")
    assert reason in status.explained
    assert result.text == "3"


async def test_a_program_that_never_answers_is_given_up_after_a_time(connect, program):
    hung = StdioServer(
        name="hung", command=sys.executable, args=("-c", "import sys; sys.stdin.read()")
    )
    pace = Pace(connect_s=1.0, first_pause_s=60)
    async with connect(hung, pace=pace) as connections:
        status = connections.server("hung")
    assert status.state == "failed"
    assert "1 s" in status.reason


async def test_a_program_that_talks_rubbish_is_no_server(connect):
    noise = "import sys; print('Starting!'); print('{}'); sys.stdout.flush(); sys.stdin.read()"
    server = StdioServer(name="noise", command=sys.executable, args=("-c", noise))
    async with connect(server, pace=Pace(connect_s=1.0, first_pause_s=60)) as connections:
        assert state(connections, "noise") == "failed"


async def test_a_disabled_server_is_left_alone(connect, program):
    async with connect(program(disabled=True)) as connections:
        assert state(connections) == "disabled"
        assert connections.tools() == ()


async def test_leaving_ends_the_programs(connect, program):
    async with connect(program()) as connections:
        process = int((await connections.call("process", {})).text)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize("mode", ["modern", "sse"])
async def test_a_server_over_http_is_used_like_any_other(connect, port, load_server, mode):
    module = load_server()
    web = port(module.server.sse_app if mode == "sse" else module.server.streamable_http_app)
    path = "/sse" if mode == "sse" else "/mcp"
    config = web.config(path, kind="sse" if mode == "sse" else "http")
    async with connect(config) as connections:
        assert (await connections.call("add", {"a": 1, "b": 2})).text == "3"
        result = await connections.call("huge", {"n": 100_000})
        hung = await connections.call("hang", {}, timeout_s=0.2)
    assert "60000 of 100000" in result.text
    assert hung.is_error


async def test_a_server_over_http_that_is_started_anew_is_found_again(connect, web):
    async with connect(web.config()) as connections:
        assert (await connections.call("add", {"a": 1, "b": 2})).text == "3"
        await asyncio.to_thread(web.stop)
        await until(lambda: state(connections, "web") != "connected")
        dead = await connections.call("add", {"a": 1, "b": 2})
        await asyncio.to_thread(web.start)
        await until(lambda: state(connections, "web") == "connected")
        alive = await connections.call("add", {"a": 1, "b": 2})
    assert dead.is_error
    assert alive.text == "3"


async def test_a_call_finds_a_server_that_came_back_before_anyone_looked(connect, web):
    slow = Pace(watch_s=600, first_pause_s=600, connect_s=30)
    async with connect(web.config(), pace=slow) as connections:
        await asyncio.to_thread(web.stop)
        await asyncio.to_thread(web.start)
        assert (await connections.call("add", {"a": 1, "b": 2})).text == "3"


async def test_headers_are_sent_with_every_request(connect, port, load_server):
    seen = []

    def make():
        app = load_server().server.streamable_http_app()

        async def noting(scope, receive, send):
            if scope["type"] == "http":
                seen.append(dict(scope["headers"]).get(b"authorization"))
            await app(scope, receive, send)

        return noting

    async with connect(port(make).config(headers={"Authorization": "Bearer k"})) as connections:
        await connections.call("add", {"a": 1, "b": 2})
    assert set(seen) == {b"Bearer k"}


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_server_that_refuses_is_no_server(connect, port, status):
    def make():
        async def refuse(scope, receive, send):
            if scope["type"] != "http":
                raise NotImplementedError
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})

        return refuse

    async with connect(port(make).config()) as connections:
        assert state(connections, "web") in ("failed", "connecting")
        assert connections.server("web").reason


async def test_a_server_can_be_added_used_and_removed(connect, web):
    async with connect(guard=AddressGuard(HERE)) as connections:
        added = await connections.add(web.config())
        assert (added.state, added.origin) == ("connected", "added")
        assert (await connections.call("add", {"a": 1, "b": 2})).text == "3"
        with pytest.raises(InvalidRequest):
            await connections.add(web.config())
        assert connections.added == (web.config(),)
        await connections.remove("web")
        assert (await connections.call("add", {"a": 1, "b": 2})).is_error
        with pytest.raises(UnknownMcpServer):
            await connections.remove("web")


async def test_a_server_that_does_not_answer_is_not_added(connect):
    async with connect(guard=AddressGuard(HERE)) as connections:
        with pytest.raises(RemoteUnreachable):
            await connections.add(HttpServer(name="dead", url="http://127.0.0.1:9/mcp"))
        assert connections.status() == ()


async def test_an_added_server_may_not_be_on_this_machine(connect, web):
    async with connect() as connections:
        for attempt in (connections.add, connections.test):
            with pytest.raises(AddressRefused) as caught:
                await attempt(web.config())
            assert caught.value.param == "url"


async def test_a_name_that_points_elsewhere_after_the_check_gains_nothing(connect, web):
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers[0] if len(answers) == 1 else answers.pop(0)

    guard = AddressGuard(HERE, resolve=rebinding)
    url = f"http://rebind.example:{web.number}/mcp"
    async with connect(guard=guard) as connections:
        with pytest.raises(RemoteUnreachable) as caught:
            await connections.add(HttpServer(name="web", url=url))
    assert "127.0.0.2" in caught.value.message


async def test_an_added_server_is_reached_at_the_address_that_was_checked(connect, port):
    hosts = []

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    def make():
        async def app(scope, receive, send):
            hosts.append(dict(scope["headers"])[b"host"])
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        return app

    opened = port(make)
    url = f"http://name.example:{opened.number}/mcp"
    async with connect(guard=AddressGuard(HERE, resolve=here)) as connections:
        with pytest.raises(RemoteUnreachable):
            await connections.test(HttpServer(name="web", url=url))
    assert f"name.example:{opened.number}".encode() in hosts


@pytest.mark.parametrize("location", ["http://127.0.0.2:9/", "http://169.254.169.254/latest"])
async def test_a_redirect_leads_an_added_server_nowhere(connect, port, location):
    asked = []

    def make():
        async def app(scope, receive, send):
            asked.append(scope["path"])
            headers = [(b"location", location.encode())]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        return app

    async with connect(guard=AddressGuard(HERE)) as connections:
        with pytest.raises(RemoteUnreachable):
            await connections.test(port(make).config())
    assert asked


async def test_a_test_tells_what_a_server_offers_and_leaves_it(connect, web):
    async with connect(guard=AddressGuard(HERE)) as connections:
        tried = await connections.test(web.config())
        assert "add" in {tool.name for tool in tried.tools}
        assert connections.status() == ()


async def test_an_operators_server_cannot_be_removed(connect, program):
    async with connect(program()) as connections:
        with pytest.raises(InvalidRequest):
            await connections.remove("tools")
        assert state(connections) == "connected"


async def test_asking_a_server_again_connects_to_it(connect, web):
    slow = Pace(watch_s=600, first_pause_s=600, connect_s=30)
    web.stop()
    async with connect(web.config(), pace=slow) as connections:
        with pytest.raises(RemoteUnreachable):
            await connections.check("web")
        await asyncio.to_thread(web.start)
        status = await connections.check("web")
    assert status.state == "connected"
    assert status.tools


async def test_an_answer_without_end_is_broken_off(connect, port):
    def make():
        async def app(scope, receive, send):
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for _ in range(18):
                await send({"type": "http.response.body", "body": b" " * 2**20, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        return app

    async with connect(port(make).config()) as connections:
        assert f"{16 * 2**20} bytes" in connections.server("web").reason


async def test_an_answer_that_is_compressed_all_the_same_is_refused_before_it_is_unpacked(
    connect, port
):
    asked = []
    bomb = gzip.compress(b" " * 2**20)

    def make():
        async def app(scope, receive, send):
            asked.append(dict(scope["headers"]).get(b"accept-encoding"))
            headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": bomb})

        return app

    async with connect(port(make).config()) as connections:
        assert "compressed" in connections.server("web").reason
    assert set(asked) == {b"identity"}


async def test_a_server_that_hangs_when_it_is_left_is_connected_to_again(connect, port, pace):
    lost, left = threading.Event(), threading.Event()

    def answer(request):
        match request["method"]:
            case "initialize":
                about = {"serverInfo": {"name": "x", "version": "1"}, "capabilities": {"tools": {}}}
                return {"result": {"protocolVersion": "2025-06-18", **about}}
            case "tools/list":
                return {"result": {"tools": []}}
        return {"error": {"code": -32601, "message": "no such method"}}

    def make():
        async def app(scope, receive, send):
            if scope["type"] != "http":
                raise NotImplementedError
            body, status = b"", 500 if lost.is_set() else 405
            if scope["method"] == "DELETE":  # how a session is ended
                left.set()
                lost.clear()
                await asyncio.Event().wait()
            if scope["method"] == "POST" and not lost.is_set():
                request, status = json.loads((await receive())["body"]), 202
                if "id" in request:
                    reply = {"jsonrpc": "2.0", "id": request["id"], **answer(request)}
                    body, status = json.dumps(reply).encode(), 200
            headers = [(b"content-type", b"application/json"), (b"mcp-session-id", b"1")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        return app

    async with connect(port(make).config(), pace=replace(pace, leave_s=0.1)) as connections:
        assert state(connections, "web") == "connected"
        lost.set()
        await until(left.is_set)
        await until(lambda: connections.server("web").state != "connected")
        await until(lambda: connections.server("web").state == "connected")


async def test_a_server_whose_tools_change_without_end_is_asked_now_and_then(
    connect, strange_program
):
    async with connect(strange_program, pace=Pace(between_s=3600)) as connections:
        for _ in range(50):
            result = await connections.call("lists", {})
    assert int(result.text) <= 2


async def test_a_result_is_not_held_to_what_its_server_says_of_it(connect, strange_program):
    async with connect(strange_program) as connections:
        result = await connections.call("liar", {})
    assert (result.structured, result.is_error) == ({"x": "b"}, False)


async def test_what_a_stranger_says_of_itself_is_short_and_steers_no_terminal(
    connect, strange_program, caplog
):
    with caplog.at_level(logging.INFO):
        async with connect(strange_program) as connections:
            status = connections.server("tools")
            await until(lambda: "red" in caplog.text)
    told = [status.software, caplog.text, *(tool.annotations.title for tool in status.tools)]
    assert "red" in status.software
    assert not any("\x1b" in each for each in told)
    assert len(status.software) <= 200
    assert [tool.name for tool in status.tools] == ["lists", "liar"]


@pytest.mark.parametrize("value", ["\ud800", float("nan")])
async def test_arguments_that_are_no_json_do_not_cost_others_their_connection(
    connect, program, value
):
    async with connect(program()) as connections:
        before = (await connections.call("process", {})).text
        refused = await connections.call("variable", {"name": value})
        assert (await connections.call("process", {})).text == before
    assert refused.is_error


async def test_why_a_program_failed_is_told_apart_from_what_it_wrote(connect):
    secret = StdioServer(
        name="bad", command=sys.executable, args=("-c", "import sys; sys.exit('key abc')")
    )
    async with connect(secret, pace=Pace(first_pause_s=60)) as connections:
        status = connections.server("bad")
    assert "abc" in status.explained
    assert status.reason
    assert "abc" not in status.reason


async def test_stopping_ends_calls_that_run_and_those_that_come_later(connect, web, tmp_path):
    started = tmp_path / "started"
    async with connect(web.config(timeout_s=600)) as connections:
        call = asyncio.create_task(connections.call("hang", {"started": str(started)}))
        await until(started.exists)
        await connections.stop()
        async with asyncio.timeout(10):
            results = [await call, await connections.call("add", {"a": 1, "b": 2})]
    assert all(each.is_error for each in results)


async def test_tools_that_are_as_they_were_stay_the_same_objects(connect, program):
    async with connect(program()) as connections:
        before = connections.server("tools").tools
        await connections.check("tools")
        after = connections.server("tools").tools
    assert all(a.parameters is b.parameters for a, b in zip(before, after, strict=True))


async def test_schemas_that_take_too_long_to_check_hold_no_call(connect, program, pace):
    async with connect(program(), pace=replace(pace, check_s=0.0)) as connections:
        (add,) = [tool for tool in connections.tools() if tool.name == "add"]
    assert add.parameters == {"type": "object"}
    assert '"integer"' in add.description
