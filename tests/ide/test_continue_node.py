"""The configuration in the hands of Continue's own packages from npm.

Needs `node` 20 or newer, and NODE_MODULES: the folder that npm has installed
`@continuedev/config-yaml` and `@continuedev/openai-adapters` into.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qwenkit.cli.app import run
from qwenkit.ide import continue_config

FOLDER = os.environ.get("NODE_MODULES")
pytestmark = [pytest.mark.node, pytest.mark.skipif(FOLDER is None, reason="needs NODE_MODULES")]
SCRIPT = Path(__file__).with_name("continue.mjs")

USERS = """\
name: Mine # by hand
version: 1.0.0
schema: v1
models:
  # the one at work
  - name: work
    provider: openai
    model: gpt-5
    apiKey: ${{ secrets.WORK }}
rules:
  - Be brief.
"""


def read_by_continue(file: Path, secrets: dict[str, str]) -> Any:
    done = subprocess.run(
        ["node", SCRIPT, FOLDER or "", file, json.dumps(secrets)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("users", ["", USERS])
def test_continues_packages_take_the_file_and_the_server_answers_them(
    url: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTINUE_GLOBAL_DIR", str(tmp_path))
    file = tmp_path / "config.yaml"
    if users:
        file.write_text(users, encoding="utf-8")
    assert run(["ide", "continue", "--write", "--url", url, "--api-key", key]) == 0
    found = read_by_continue(file, {continue_config.SECRET: key, "WORK": "w"})

    assert found["complaints"] == []
    ours = [each for each in found["config"]["models"] if each["name"].startswith("qwenkit")]
    assert {each["apiKey"] for each in ours} == {key}
    assert found["config"]["mcpServers"][0]["url"] == f"{url}/mcp"
    assert found["models"] == ["qwenkit-demo"]
    assert found["chat"]["thoughts"]
    assert "Qwen3" in found["chat"]["text"]
    assert found["chat"]["usage"]["total_tokens"] > 0
    assert found["edit"]["text"]
    assert found["edit"]["thoughts"] == ""
    assert found["complete"]["text"]
    assert found["complete"]["finish"] == "stop"
    assert len(set(found["widths"])) == 1
    assert found["widths"][0] > 0
    assert found["scores"] is None or len(found["scores"]) == 2
    if users:
        assert found["config"]["models"][0]["name"] == "work"
        assert found["config"]["rules"] == ["Be brief."]
