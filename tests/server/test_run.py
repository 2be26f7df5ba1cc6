"""`serve` as a process: addresses, signals, and how it ends."""

import json
import signal
import socket
import subprocess
import sys
import textwrap

import httpx
import pytest

from qwenkit.errors import AddressInUse, InvalidSettings
from qwenkit.server.run import serve
from qwenkit.settings import Settings

PATH = "/v1/chat/completions"
SERVER = textwrap.dedent(
    """
    import json, os, sys, threading
    from dataclasses import asdict
    from qwenkit.backends.scripted import ScriptedBackend
    from qwenkit.chat.completion import ChatModel
    from qwenkit.chat.template import ChatTemplate
    from qwenkit.engine.engine import Engine
    from qwenkit.errors import ModelNotFound, QwenkitError
    from qwenkit.server.run import serve
    from qwenkit.settings import Settings

    arguments = json.loads(sys.argv[1])
    backend = ScriptedBackend({"": "<think>\\n\\n</think>\\n\\n" + "la " * 1000}, n_ctx=8192)

    def load(spec, *, name, progress, observer):
        if arguments.get("fail"):
            raise ModelNotFound("nothing there")
        if arguments.get("hang"):
            print("loading", flush=True)
            threading.Event().wait()
        engine = Engine(backend, observer=observer).start()
        template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
        return ChatModel("scripted", engine, template)

    def take_orders():
        for line in sys.stdin:
            backend.hold() if line == "hold\\n" else backend.release()
            if line == "hold\\n":
                print("held" if backend.wait_until_held() else "idle", flush=True)

    threading.Thread(target=take_orders, daemon=True).start()
    given = {"log_level": "warning", **arguments.get("settings", {})}
    settings = Settings(_env_file=None, port=0, **given)
    try:
        say = lambda info: print(json.dumps(asdict(info)), flush=True)
        serve(settings, on_ready=say, load=load)
    except QwenkitError as exc:
        print(exc, flush=True)
        sys.exit(exc.exit_code)
    print("closed" if backend.closed else "open", flush=True)
    """
)


class Process:
    """A server in a process of its own."""

    def __init__(self, **arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read(self):
        return self.process.stdout.readline().strip()

    def order(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def send(self, number):
        self.process.send_signal(number)

    def end(self, timeout=20):
        """The exit code, what was still printed, and the log."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out.split(), err


def accepts(url):
    try:
        httpx.get(url + "/healthz")
    except httpx.TransportError:
        return False
    return True


@pytest.fixture
def start():
    processes = []

    def start(**arguments):
        processes.append(Process(**arguments))
        return processes[-1]

    yield start
    for each in processes:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


def test_a_ready_server_tells_what_it_serves(start):
    server = start()
    info = json.loads(server.read())
    assert info["model"] == "scripted"
    assert info["is_demo"]
    assert not info["needs_key"]
    assert info["n_ctx"] == 8192
    assert httpx.get(info["url"] + "/readyz").status_code == 200
    server.send(signal.SIGTERM)
    assert server.end() == (0, ["closed"], "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_answers_finish_and_takes_nothing_new(start, number, ask, until):
    server = start()
    url = json.loads(server.read())["url"]
    with httpx.stream("POST", url + PATH, json=ask("x", stream=True), timeout=30) as reply:
        lines = reply.iter_lines()
        assert any('"content":"l"' in line for line in lines)
        server.order("hold")
        assert server.read() == "held"
        server.send(number)
        until(lambda: not accepts(url))
        server.order("release")
        assert any("[DONE]" in line for line in lines)
    assert server.end() == (0, ["closed"], "")


def test_an_answer_that_takes_too_long_is_ended_with_an_error(start, ask):
    server = start(settings={"drain_timeout_s": 0.2})
    url = json.loads(server.read())["url"]
    with httpx.stream("POST", url + PATH, json=ask("x", stream=True), timeout=30) as reply:
        lines = reply.iter_lines()
        assert any('"content":"l"' in line for line in lines)
        server.order("hold")
        assert server.read() == "held"
        server.send(signal.SIGTERM)
        rest = [line for line in lines if line.startswith("data: ")]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
    code, printed, _ = server.end()
    assert (code, printed) == (0, ["closed"])


def test_a_second_signal_ends_at_once(start, ask, until):
    server = start(settings={"drain_timeout_s": 600})
    url = json.loads(server.read())["url"]
    with httpx.stream("POST", url + PATH, json=ask("x", stream=True), timeout=30) as reply:
        lines = reply.iter_lines()
        assert any('"content":"l"' in line for line in lines)
        server.order("hold")
        assert server.read() == "held"
        server.send(signal.SIGTERM)
        until(lambda: not accepts(url))
        server.send(signal.SIGTERM)
        code, printed, _ = server.end()
    assert (code, printed) == (0, ["closed"])


def test_a_signal_while_the_model_loads_ends_the_server(start):
    server = start(hang=True)
    assert server.read() == "loading"
    server.send(signal.SIGTERM)
    assert server.end()[:2] == (0, ["open"])


def test_a_model_that_can_not_be_loaded_ends_the_server_with_its_error(start):
    server = start(fail=True)
    code, printed, _ = server.end()
    assert code == 4
    assert printed == ["nothing", "there"]


def test_an_address_in_use_is_known_before_anything_is_loaded():
    def load(spec, **_):
        raise AssertionError("nothing may be loaded")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(_env_file=None, port=taken.getsockname()[1])
        with pytest.raises(AddressInUse) as caught:
            serve(settings, on_ready=print, load=load)
    assert "--port" in caught.value.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_public_address_needs_a_key(host):
    with pytest.raises(InvalidSettings) as caught:
        serve(Settings(_env_file=None, host=host, port=0), on_ready=print)
    assert "API_KEYS" in caught.value.hint


def test_an_admin_key_alone_does_not_open_a_public_address():
    settings = Settings(_env_file=None, host="0.0.0.0", port=0, admin_api_keys="a")
    with pytest.raises(InvalidSettings):
        serve(settings, on_ready=print)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "", "999.1.1.1"])
def test_a_host_that_is_not_ours_is_refused(host):
    settings = Settings(_env_file=None, host=host, port=0, api_keys="k")
    with pytest.raises(InvalidSettings):
        serve(settings, on_ready=print)
