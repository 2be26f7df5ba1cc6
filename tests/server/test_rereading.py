"""Settings that change while the server runs, and the signal that says so."""

import asyncio
import errno
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading

import httpx
import pytest
import uvicorn

from qwenkit.errors import AdapterUnsupported, InvalidSettings, ModelCorrupt
from qwenkit.server.run import _Server
from qwenkit.settings import Settings

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


@pytest.fixture
def start(make_app, run, models):
    def start(**settings):
        headers = settings.pop("headers", {})
        return run(make_app(models=models, **settings), **headers)

    return start


async def take_on(client, **changes):
    """Give the server its settings with some changed."""
    rereader = client.state.rereader
    given = {name: getattr(rereader.settings, name) for name in Settings.model_fields}
    await rereader.take_on(Settings(_env_file=None, **{**given, **changes}))


async def test_a_changed_model_is_loaded_and_what_has_not_changed_is_not(start, models):
    async with start(model_path="one", n_ctx=512) as client:
        await take_on(client)
        await take_on(client, thinking_budget=7)
        assert len(models.specs) == 1
        await take_on(client, n_ctx=1024)
    assert [(spec.model_path, spec.n_ctx) for spec in models.specs] == [("one", 512), ("one", 1024)]


async def test_what_a_request_has_changed_since_stays(start, models):
    async with start(model_path="one") as client:
        await client.post("/admin/reload", json={"model_path": "two"})
        await take_on(client, n_ctx=1024)
    assert (models.specs[-1].model_path, models.specs[-1].n_ctx) == ("two", 1024)


async def test_a_changed_name_is_the_models_new_one(start):
    async with start(served_model_name="one") as client:
        await take_on(client, served_model_name="two")
        assert (await client.get("/readyz")).json()["model"] == "two"


async def test_a_model_that_can_not_be_loaded_is_tried_again_the_next_time(start, models, ask):
    fails = True

    def make():
        if fails:
            raise ModelCorrupt("`two` is truncated")
        return models.backend

    models.makers["two"] = make
    async with start(model_path="one") as client:
        with pytest.raises(ModelCorrupt):
            await take_on(client, model_path="two")
        assert (await client.post(CHAT, json=ask("hello"))).status_code == 200
        fails = False
        await take_on(client, model_path="two")
        assert (await client.get("/admin/status")).json()["model"]["model_path"] == "two"


async def test_changed_adapters_come_and_go(start, write_adapter, adapters_dir):
    write_adapter("a")
    write_adapter("b")
    async with start(lora_paths=f"{adapters_dir}/a.gguf") as client:
        await take_on(client, lora_paths=f"{adapters_dir}/b.gguf")
        listed = (await client.get("/admin/adapters")).json()["adapters"]
        assert [each["name"] for each in listed] == ["b"]


async def test_adapters_are_watched_from_when_the_setting_says_so(start, write_adapter, until):
    async with start() as client:
        folder = str(write_adapter("a").parent)
        await take_on(client, lora_paths=folder, lora_watch=True)
        await take_on(client, lora_paths=folder, lora_watch=False)
        assert client.state.serving.adapters


async def test_limits_of_requests_change_at_once(start):
    async with start() as client:
        await take_on(client, thinking_budget=7, sse_ping_s=3)
        limits = client.state.serving.limits
        assert (limits.thinking_budget, limits.sse_ping_s) == (7, 3)


async def test_keys_can_be_exchanged_but_not_taken_away(start, caplog):
    old, new = {"X-Api-Key": "old"}, {"X-Api-Key": "new"}
    async with start(api_keys="old", headers={}) as client:
        await take_on(client, api_keys="new")
        assert (await client.get("/v1/models", headers=old)).status_code == 401
        assert (await client.get("/v1/models", headers=new)).status_code == 200
        await take_on(client, api_keys="")
        assert (await client.get("/v1/models")).status_code == 401
        assert "restart" in caplog.text


async def test_a_lost_admin_key_makes_nobody_an_admin(start, caplog):
    admin = {"X-Api-Key": "adm"}
    async with start(admin_api_keys="adm") as client:
        await take_on(client, admin_api_keys="")
        assert (await client.get("/admin/status")).status_code == 403
        assert (await client.get("/admin/status", headers=admin)).status_code == 200
        assert "ADMIN_API_KEYS" in caplog.text


async def test_a_model_and_the_adapters_that_fit_only_it_can_change_together(
    start, models, write_adapter
):
    def need_two(source):
        if models.specs[-1].model_path != "two":
            raise AdapterUnsupported(f"`{source}` is for another model")

    models.before_prepare = need_two
    path = write_adapter("poet")
    async with start(model_path="one") as client:
        await take_on(client, model_path="two", lora_paths=str(path))
        status = (await client.get("/admin/status")).json()
        assert [each["name"] for each in status["adapters"]] == ["poet"]
        assert status["left_out"] == []


async def test_adapters_change_though_the_model_can_not(start, models, write_adapter):
    def fail():
        raise ModelCorrupt("`two` is truncated")

    models.makers["two"] = fail
    path = write_adapter("poet")
    async with start(model_path="one") as client:
        with pytest.raises(ModelCorrupt):
            await take_on(client, model_path="two", lora_paths=str(path))
        assert [each.name for each in client.state.serving.adapters] == ["poet"]


@pytest.fixture
def env_file(tmp_path, monkeypatch):
    """A `.env` in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".env"


async def test_of_two_readings_at_once_the_later_one_counts(start, models, env_file):
    reached, may_go_on = threading.Event(), threading.Event()

    def wait(spec):
        if spec.model_path == "one":
            reached.set()
            assert may_go_on.wait(10)

    models.before_load = wait
    async with start() as client:
        rereader = client.state.rereader
        env_file.write_text("MODEL_PATH=one", encoding="utf-8")
        first = asyncio.create_task(rereader.reread())
        assert await asyncio.to_thread(reached.wait, 10)
        env_file.write_text("MODEL_PATH=two", encoding="utf-8")
        second = asyncio.create_task(rereader.reread())
        await asyncio.sleep(0)
        may_go_on.set()
        await asyncio.gather(first, second)
        assert client.state.reloader.plan.spec.model_path == "two"
        assert rereader.settings.model_path == "two"


async def test_a_file_that_is_no_text_changes_nothing_and_is_named(start, env_file, caplog):
    async with start(model_path="one") as client:
        before = client.state.rereader.settings
        env_file.write_bytes("SERVED_MODEL_NAME=café".encode("latin-1"))
        await client.state.rereader.reread()
        assert client.state.rereader.settings is before
    assert ".env" in caplog.text
    with pytest.raises(InvalidSettings):
        Settings.load()


def test_a_file_that_may_not_be_read_is_a_wrong_setting(env_file, monkeypatch):
    def refuse(file, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    env_file.write_text("N_CTX=512", encoding="utf-8")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InvalidSettings):
        Settings.load()


class FailingRereader:
    serving = None

    async def reread(self):
        raise RuntimeError("a bug")


async def test_a_bug_while_settings_are_taken_on_is_logged(caplog):
    config = uvicorn.Config(app=None, log_config=None)
    server = _Server(config, FailingRereader(), drain_timeout_s=0)
    server._handle_hangup()
    await asyncio.wait(server._rereading)
    await asyncio.sleep(0)
    (logged,) = caplog.records
    assert str(logged.exc_info[1]) == "a bug"


async def test_what_only_a_restart_can_change_is_named(start, caplog):
    async with start() as client:
        await take_on(
            client,
            port=9,
            cors_origins="https://ui.example",
            client_timeout_s=9,
            langfuse_release="b",
        )
    warned = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert sorted(text.split()[0] for text in warned) == [
        *("CLIENT_TIMEOUT_S", "CORS_ORIGINS", "LANGFUSE_RELEASE", "PORT")
    ]


SERVER = textwrap.dedent(
    """
    import json, sys
    from dataclasses import asdict
    from qwenkit.backends.scripted import ScriptedBackend
    from qwenkit.chat.completion import ChatModel
    from qwenkit.chat.template import ChatTemplate
    from qwenkit.engine.engine import Engine
    from qwenkit.server import app, run
    from qwenkit.settings import Settings

    def load(spec, *, name, progress, observer):
        answer = f"{spec.model_path} {spec.n_ctx}"
        backend = ScriptedBackend({"": f"<think>\\n\\n</think>\\n\\n{answer}"})
        engine = Engine(backend, observer=observer).start()
        template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
        return ChatModel("scripted", engine, template)

    settings = Settings.load(port=0, n_ctx=7, reload_mode="side_by_side")
    say = lambda info: print(json.dumps(asdict(info)), flush=True)
    run.serve(settings, on_ready=say, load=load)
    print("ended", flush=True)
    """
)


class Process:
    """A server in a process and a folder of its own."""

    def __init__(self, folder, **options):
        self.env_file = folder / ".env"
        env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        command = [sys.executable, "-c", SERVER]
        options = {"stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, **options
        )

    def ready(self):
        return json.loads(self.process.stdout.readline())["url"]

    def end(self):
        out, _ = self.process.communicate(timeout=20)
        return self.process.returncode, out.split()


@pytest.fixture
def start_process(tmp_path):
    processes = []

    def start(**options):
        processes.append(Process(tmp_path, **options))
        return processes[-1]

    yield start
    for each in processes:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


def test_a_hangup_signal_reads_the_settings_again_and_flags_still_win(
    tmp_path, start_process, ask, until
):
    (tmp_path / ".env").write_text("MODEL_PATH=one\nN_CTX=9\n", encoding="utf-8")
    server = start_process()
    url = server.ready()

    def answer():
        reply = httpx.post(url + CHAT, json=ask("hello"))
        return reply.json()["choices"][0]["message"]["content"]

    assert answer() == "one 7"
    for text, expected in (("MODEL_PATH=two", "two 7"), ("N_PARALLEL=0\nMODEL_PATH=x", "two 7")):
        server.env_file.write_text(text, encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        until(lambda expected=expected: answer() == expected)
    server.env_file.write_text("MODEL_PATH=three", encoding="utf-8")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: answer() == "three 7")
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == (0, ["ended"])


def test_a_terminal_that_closes_ends_the_server(start_process):
    ours, theirs = pty.openpty()
    server = start_process(stdin=theirs, stderr=theirs, start_new_session=True)
    server.ready()
    os.close(theirs)
    os.close(ours)
    server.process.send_signal(signal.SIGHUP)
    assert server.end() == (0, ["ended"])
