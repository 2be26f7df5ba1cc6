"""Makes the pictures of the chat page's guide: `python tests/ui/pictures.py`.

It needs Playwright, Chromium and the built page, and takes them from the scripted server.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

HERE = Path(__file__).parent
IMAGES = HERE.parent.parent / "docs" / "guides" / "images"


def tools_of_the_tests() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conftest", HERE / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(tests: ModuleType, folder: Path) -> Any:
    machine = {"command": sys.executable, "args": [str(HERE.parent / "mcp" / "plain_server.py")]}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"machine": machine}}), "utf-8")
    port = tests.free_port()
    settings = {
        "port": port,
        "mcp_config": str(folder / "mcp.json"),
        "log_dir": str(folder / "logs"),
        "qwenkit_home": str(folder / "home"),
        "drain_timeout_s": 0,
    }
    return tests.Served([str(HERE / "served.py"), json.dumps(settings)], port, {})


def desktop(tests: ModuleType, browser: Browser, url: str) -> None:
    """A conversation with thinking, a tool, a table and code, beside the list."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    chat = tests.Chat(context.new_page(), "desktop", None)
    chat.page.goto(url)
    chat.say("multiply 17 by 23, please")
    expect(chat.answer).to_contain_text("It is 391.")
    chat.say("show me your markdown")
    expect(chat.answer.locator(".katex").first).to_be_visible()
    chat.page.screenshot(path=IMAGES / "chat-desktop.png")


def phone(tests: ModuleType, browser: Browser, url: str) -> None:
    """A tool that waits for approval, in the dark."""
    context = browser.new_context(**tests.FORMS["phone"], color_scheme="dark")
    chat = tests.Chat(context.new_page(), "phone", None)
    chat.page.goto(url)
    chat.say("look up the first variable")
    expect(chat.button("Approve")).to_be_visible()
    chat.page.screenshot(path=IMAGES / "chat-phone.png")


def main() -> None:
    tests = tools_of_the_tests()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = start(tests, Path(folder))
        browser = playwright.chromium.launch(executable_path=tests.CHROMIUM, args=tests.FLAGS)
        try:
            for picture in (desktop, phone):
                picture(tests, browser, server.url)
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    main()
