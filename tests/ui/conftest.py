"""The built page in headless Chromium, at a served process: its servers, its browser, its tools."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from qwenkit.ui import DIST
from qwenkit.ui.build import build_page, find_node, is_fresh

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FORMS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
PATIENCE_S = 10.0


@pytest.fixture(scope="session")
def built_page() -> Path:
    """The page, built from the source as it is now."""
    if not is_fresh(DIST):
        build_page(DIST)
    return DIST


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """The folder of npm's packages that the tests use: axe, and LangChain's hooks."""
    node = find_node()
    assert node is not None, "Node 22 or newer is needed"
    folder = HERE / "page"
    lock = (folder / "package-lock.json").read_bytes()
    installed = folder / "node_modules" / "installed-from"
    if not installed.is_file() or installed.read_bytes() != lock:
        command = [*node.npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=folder, env=node.environment(), check=True, timeout=300)
        installed.write_bytes(lock)
    return folder / "node_modules"


class Served:
    """A server in a process of its own, ready when this is.

    Args:
        program: What runs it, as Python's arguments.
        port: Where it listens.
        environment: More of its environment.
    """

    def __init__(self, program: list[str], port: int, environment: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, *program], stderr=self._errors, env={**os.environ, **environment}
        )
        deadline = time.monotonic() + 6 * PATIENCE_S
        while not self._is_ready():
            assert self._process.poll() is None, f"the server ended: {self.errors()}"
            assert time.monotonic() < deadline, f"the server is not ready: {self.errors()}"
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz").status_code == 200
        return False

    def errors(self) -> str:
        """What it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read()

    def kill(self) -> None:
        """End it as the kernel would when memory is short."""
        self._process.kill()
        self._process.wait(20)

    def stop(self) -> None:
        """End it politely."""
        self._process.terminate()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait(20)
            self._errors.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Starts scripted servers, each in folders of its own unless they are given."""
    with ExitStack() as stack:

        def start_one(**settings: Any) -> Served:
            folder = tmp_path_factory.mktemp("served")
            given = {
                "port": free_port(),
                "drain_timeout_s": 0,
                "log_dir": str(folder / "logs"),
                "qwenkit_home": str(folder / "home"),
                **settings,
            }
            server = Served([str(HERE / "served.py"), json.dumps(given)], given["port"], {})
            stack.callback(server.stop)
            return server

        yield start_one


@pytest.fixture(scope="session")
def serve_command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Served]]:
    """Runs `qwenkit serve` as somebody does who has configured nothing."""
    with ExitStack() as stack:

        def serve() -> Served:
            folder, port = tmp_path_factory.mktemp("demo"), free_port()
            own = {"QWENKIT_HOME": str(folder / "home"), "LOG_DIR": str(folder / "logs")}
            server = Served(["-m", "qwenkit", "serve", "--port", str(port)], port, own)
            stack.callback(server.stop)
            return server

        yield serve


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that answers everything alike."""
    path = tmp_path_factory.mktemp("adapters") / "pirate.gguf"
    path.write_text(json.dumps({"": "<think>\n\n</think>\n\nArr!"}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def mcp_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server of tools that every scripted server has."""
    program = HERE.parent / "mcp" / "plain_server.py"
    machine = {
        "command": sys.executable,
        "args": [str(program)],
        "env": {"FIRST": "alpha-one", "SECOND": "beta-two"},
    }
    path = tmp_path_factory.mktemp("mcp") / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"machine": machine}}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def server(
    built_page: Path, start: Callable[..., Served], adapter: Path, mcp_config: Path
) -> Served:
    """The server that most tests share; each has a browser and threads of its own."""
    return start(
        lora_paths=[str(adapter)],
        mcp_config=str(mcp_config),
        mcp_allowed_networks=["127.0.0.0/8"],
    )


@pytest.fixture(scope="session")
def far_url() -> Iterator[str]:
    """A server of tools over streamable HTTP."""
    path = HERE.parent / "mcp" / "tool_server.py"
    spec = importlib.util.spec_from_file_location("tool_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        config = uvicorn.Config(
            module.server.streamable_http_app(),
            log_config=None,
            ws="none",
            timeout_graceful_shutdown=0,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    assert CHROMIUM is not None, "Chromium is needed; CHROMIUM names it"
    expect.set_options(timeout=1000 * PATIENCE_S)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """A browser's window, and everything that it asked for or complained about."""

    def __init__(self, context: BrowserContext) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", self._listen)

    def _listen(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    def foreign(self, url: str) -> list[str]:
        """What was asked of anybody but the server."""
        own = (f"{url}/", "data:", f"blob:{url}/")
        return [asked for asked in self.requests if not asked.startswith(own)]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Each size of window that the page is made for."""
    name: str = request.param
    return name


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., tuple[BrowserContext, Watched]]]:
    """Opens windows, each with a memory of its own."""
    with ExitStack() as stack:

        def open_window(form: str = "desktop", **options: Any) -> tuple[BrowserContext, Watched]:
            settled = {"reduced_motion": "reduce", **FORMS[form], **options}
            context = browser.new_context(**settled)
            stack.callback(context.close)
            context.set_default_timeout(1000 * PATIENCE_S)
            return context, Watched(context)

        yield open_window


@contextmanager
def files_at(folder: Path) -> Iterator[str]:
    """The files of a folder at a port, as another web server would have them; gives its URL."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{files.server_address[1]}"
        finally:
            files.shutdown()
            thread.join(20)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def hosted() -> Callable[[Path], AbstractContextManager[str]]:
    return files_at


@contextmanager
def watched_page(context: BrowserContext, watched: Watched, url: str) -> Iterator[Page]:
    """A page that must not have spoken to strangers nor complained by the time it is closed."""
    page = context.new_page()
    page.goto(url)
    yield page
    assert watched.foreign(url) == []
    assert watched.complaints == []


@pytest.fixture
def chat(
    window: Callable[..., tuple[BrowserContext, Watched]], server: Served, form: str
) -> Iterator[Chat]:
    """The chat at the shared server, in each size of window."""
    context, watched = window(form, permissions=["clipboard-read", "clipboard-write"])
    with watched_page(context, watched, server.url) as page:
        yield Chat(page, form, watched)


class Chat:
    """The chat as a person has it: what is written, pressed and seen. Knows the controls' names.

    Args:
        page: Shows the chat.
        form: The size of its window.
        watched: What the window has asked for and complained about.
    """

    def __init__(self, page: Page, form: str, watched: Watched) -> None:
        self.page = page
        self.form = form
        self.watched = watched

    def say(self, text: str) -> None:
        """Send a message."""
        self.page.get_by_label("Message", exact=True).fill(text)
        self.button("Send").click()

    def button(self, name: str) -> Locator:
        """A button by its whole name."""
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def answers(self) -> Locator:
        """The model's answers, oldest first."""
        return self.page.locator("[data-role=assistant]")

    @property
    def answer(self) -> Locator:
        """The newest answer."""
        return self.answers.last

    @property
    def messages(self) -> Locator:
        """The person's own messages."""
        return self.page.locator("[data-role=user]")

    def of_answer(self, name: str) -> Locator:
        """A button of the newest answer."""
        return self.answer.get_by_role("button", name=name, exact=True)

    @contextmanager
    def panel(self, name: str) -> Iterator[Locator]:
        """The settings or the servers, open; closed again afterwards."""
        self.button(name).click()
        place = self.page.get_by_role("dialog" if self.form == "phone" else "complementary")
        panel = place.filter(has=self.page.get_by_role("heading", name=name, exact=True))
        yield panel
        panel.get_by_role("button", name=f"Close {name}").click()
        panel.wait_for(state="detached")

    @contextmanager
    def conversations(self) -> Iterator[Locator]:
        """The list of conversations, which a phone shows only when it is asked to."""
        if self.form == "phone":
            self.button("Show conversations").click()
            shown = self.page.get_by_role("dialog", name="Conversations")
            yield shown
            if shown.is_visible():
                self.button("Hide conversations").click()
        else:
            yield self.page.get_by_role("navigation", name="Conversations")


@pytest.fixture
def chat_at() -> type[Chat]:
    """Makes a chat of a page that the test has opened itself."""
    return Chat


@pytest.fixture(scope="session")
def axe(node_packages: Path) -> Callable[[Page], list[str]]:
    """Tells what axe finds seriously wrong with a page as it is shown."""
    program = (node_packages / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

    def examine(page: Page) -> list[str]:
        page.evaluate(program)
        found = page.evaluate("async () => (await axe.run(document)).violations")
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:160]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    return examine
