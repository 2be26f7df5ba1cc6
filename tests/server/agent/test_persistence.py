"""Threads outlive the server, however it ends."""

import json
import signal
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest
from langgraph_sdk import get_client

from qwenkit.errors import ServerError

pytestmark = pytest.mark.anyio

SERVER = textwrap.dedent(
    """
    import json, sys, threading
    from qwenkit.backends.scripted import ScriptedBackend
    from qwenkit.chat.completion import ChatModel
    from qwenkit.chat.template import ChatTemplate
    from qwenkit.engine.engine import Engine
    from qwenkit.server.run import serve
    from qwenkit.settings import Settings

    backend = ScriptedBackend(json.loads(sys.argv[2]), n_ctx=8192)

    def load(spec, *, name, progress, observer):
        engine = Engine(backend, observer=observer).start()
        template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
        return ChatModel("scripted", engine, template)

    def take_orders():
        for line in sys.stdin:
            backend.hold() if line == "hold\\n" else backend.release()
            if line == "hold\\n":
                print("held" if backend.wait_until_held() else "idle", flush=True)

    threading.Thread(target=take_orders, daemon=True).start()
    settings = Settings(_env_file=None, port=0, **json.loads(sys.argv[1]))
    serve(settings, on_ready=lambda info: print(info.url, flush=True), load=load)
    """
)
CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "17*23"}}\n</tool_call>'
ANSWERS = {
    "": "<think>\n\n</think>\n\nYes.",
    "sum": f"<think>\n\n</think>\n\n{CALL}",
    "391": "<think>\n\n</think>\n\n" + "la " * 300,
}


class Process:
    """A server in a process of its own."""

    def __init__(self, settings):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, json.dumps(settings), json.dumps(ANSWERS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.read()

    def read(self):
        return self.process.stdout.readline().strip()

    def order(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()


@contextmanager
def a_process(settings):
    server = Process(settings)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate(timeout=20)


@pytest.fixture
def settings(tmp_path):
    return {"log_dir": str(tmp_path / "logs"), "qwenkit_home": str(tmp_path / "home")}


def client_of(server):
    return get_client(url=f"{server.url}/agent", api_key=None)


async def test_a_killed_server_has_the_thread_as_it_was_up_to_the_last_finished_step(settings):
    with a_process(settings) as server:
        async with client_of(server) as sdk:
            thread_id = (await sdk.threads.create(metadata={"title": "Sums"}))["thread_id"]
            stream = sdk.runs.stream(
                thread_id,
                "agent",
                input={"messages": [{"role": "user", "content": "sum"}]},
                stream_mode=["values", "messages-tuple"],
            )
            async for part in stream:
                if part.event == "values":
                    last = part.data
                is_chunk = part.event == "messages" and part.data[0]["content"] == "l"
                if is_chunk and len(last["messages"]) == 3:
                    break
            server.order("hold")
            assert server.read() == "held"
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(20)
    with a_process(settings) as server:
        async with client_of(server) as sdk:
            thread = await sdk.threads.get(thread_id)
            assert thread["metadata"]["title"] == "Sums"
            assert thread["status"] == "idle"
            assert thread["values"] == last
            assert [m["type"] for m in last["messages"]] == ["human", "ai", "tool"]
            state = await sdk.threads.get_state(thread_id)
            assert state["values"] == last
            assert state["next"] == ["model"]
            [run] = await sdk.runs.list(thread_id)
            assert run["status"] == "interrupted"
            [found] = await sdk.threads.search(metadata={"title": "Sums"})
            assert found["thread_id"] == thread_id
            whole = await sdk.runs.wait(thread_id, "agent")
            assert whole["messages"][:3] == last["messages"]
            assert whole["messages"][3]["content"].startswith("la la")


async def test_a_server_that_ends_politely_keeps_what_it_has(
    make_app, listening, fresh, say, tmp_path
):
    context = {"allowed_tools": ["*"]}
    with listening(make_app(models=fresh)) as url:
        async with get_client(url=f"{url}/agent", api_key=None) as sdk:
            thread_id = (await sdk.threads.create())["thread_id"]
            await sdk.runs.wait(thread_id, "agent", input=say("sum"), interrupt_before=["tools"])
            assistant = await sdk.assistants.create("agent", name="Kept", context=context)
            before = await sdk.threads.get(thread_id)
            history = await sdk.threads.get_history(thread_id)
            runs = await sdk.runs.list(thread_id)
    assert (tmp_path / "logs" / "agent.sqlite").is_file()
    with listening(make_app(models=fresh)) as url:
        async with get_client(url=f"{url}/agent", api_key=None) as sdk:
            assert await sdk.threads.get(thread_id) == before
            assert await sdk.threads.get_history(thread_id) == history
            assert await sdk.runs.list(thread_id) == runs
            kept = await sdk.assistants.get(assistant["assistant_id"])
            assert (kept["name"], kept["context"]) == ("Kept", context)
            state = await sdk.runs.wait(thread_id, "agent")
            assert state["messages"][-1]["content"] == "It is 391."


async def test_the_database_can_be_named(live, connected, say, tmp_path):
    place = tmp_path / "elsewhere" / "threads.db"
    async with connected(live(database_url=f"sqlite:///{place}")) as sdk:
        await sdk.threads.create()
    assert place.is_file()


async def test_what_could_not_be_opened_is_closed_and_tried_again(live, monkeypatch):
    from qwenkit.agent import database
    from qwenkit.server.agent import service

    open_database, recover, is_open = database.open_database, service._recover, []

    @asynccontextmanager
    async def watched(where):
        async with open_database(where) as opened:
            is_open.append(True)
            try:
                yield opened
            finally:
                is_open[-1] = False

    async def fails(*args):
        monkeypatch.setattr(service, "_recover", recover)
        raise ServerError("broken")

    monkeypatch.setattr(database, "open_database", watched)
    monkeypatch.setattr(service, "_recover", fails)
    async with httpx.AsyncClient(base_url=live().state.url) as client:
        assert (await client.get("/agent/info")).status_code == 500
        assert is_open == [False]
        assert (await client.get("/agent/info")).status_code == 200
    assert is_open == [False, True]


async def test_a_database_that_can_not_be_is_said_so(live):
    app = live(database_url="mysql://localhost/x")
    async with httpx.AsyncClient(base_url=app.state.url) as client:
        reply = await client.get("/agent/info")
        assert reply.status_code == 400
        assert "DATABASE_URL" in reply.json()["error"]["message"]
        assert (await client.get("/healthz")).status_code == 200
