"""npm's MCP inspector and conformance suite against `/mcp`.

Needs `node` 22, and NODE_MODULES: the folder that npm has installed them into.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("NODE_MODULES")
pytestmark = [pytest.mark.node, pytest.mark.skipif(FOLDER is None, reason="needs NODE_MODULES")]

KEYS = {"api_keys": "user-key", "admin_api_keys": "admin-key"}


def node(package: str, program: str, *args: str) -> subprocess.CompletedProcess[str]:
    path = Path(FOLDER or "", "@modelcontextprotocol", package, program)
    assert path.exists(), path
    return subprocess.run(
        ["node", str(path), *args], capture_output=True, text=True, timeout=120, check=False
    )


def inspector(*args: str) -> subprocess.CompletedProcess[str]:
    return node("inspector", "clients/launcher/build/index.js", "--cli", *args)


@pytest.fixture
def locked(make_app: Callable[..., Any], listening: Callable[..., Any]) -> Iterator[str]:
    with listening(make_app(**KEYS)) as url:
        yield url


def inspect(url: str, method: str, *args: str, key: str = "user-key") -> Any:
    given = ["--transport", "http", "--header", f"Authorization: Bearer {key}"]
    done = inspector(f"{url}/mcp", *given, "--method", method, *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_inspector_lists_and_calls_over_http(locked: str) -> None:
    assert [tool["name"] for tool in inspect(locked, "tools/list")["tools"]] == [
        "ask",
        "list_models",
    ]
    assert len(inspect(locked, "tools/list", key="admin-key")["tools"]) == 5
    assert inspect(locked, "resources/list")["resources"]
    assert inspect(locked, "prompts/list")["prompts"]
    asked = ["--tool-name", "ask", "--tool-arg", "question=hello"]
    assert inspect(locked, "tools/call", *asked)["content"][0]["text"] == "Hello there!"


def test_the_inspector_is_refused_without_a_key(locked: str) -> None:
    done = inspector(f"{locked}/mcp", "--transport", "http", "--method", "tools/list")
    assert done.returncode != 0


def test_the_inspector_lists_over_stdio(tmp_path: Path) -> None:
    done = inspector(
        sys.executable, "-m", "qwenkit", "mcp", "serve", "--url", "http://127.0.0.1:9",
        "--method", "tools/list",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["tools"]) == 5


@pytest.mark.parametrize(
    "scenario",
    [
        "server-initialize",
        "ping",
        "logging-set-level",
        "completion-complete",
        "tools-list",
        "resources-list",
        "prompts-list",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
    ],
)
def test_what_the_conformance_suite_asks_of_any_server_holds(url: str, scenario: str) -> None:
    done = node(
        "conformance", "dist/index.js", "server", "--url", f"{url}/mcp", "--scenario", scenario
    )
    assert done.returncode == 0, done.stdout[-2000:]
