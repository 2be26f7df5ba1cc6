from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest

from qwenkit.cli.serve import banner, curl_line
from qwenkit.server.run import ServingInfo

INFO = ServingInfo(
    url="http://127.0.0.1:8000",
    has_page=True,
    model="qwen3-8b",
    is_demo=False,
    description="qwen3 8B Q4_K_M",
    runtime="llama.cpp",
    n_ctx=32768,
    n_slots=16,
    needs_key=False,
)


def test_the_banner_says_what_is_served_and_where() -> None:
    text = "\n".join(banner(INFO))
    for part in ("qwen3-8b", "qwen3 8B Q4_K_M", "llama.cpp", "32,768", "16 slots", INFO.url):
        assert part in text
    assert "demo" not in text


def test_the_banner_begins_with_the_chat_pages_address_where_there_is_one() -> None:
    assert banner(INFO)[0].split()[:2] == ["chat", f"{INFO.url}/"]
    assert not any("chat  " in line for line in banner(replace(INFO, has_page=False)))


def test_the_demo_model_is_called_one() -> None:
    assert "demo model" in "\n".join(banner(replace(INFO, is_demo=True)))


@pytest.mark.parametrize("model", ["qwen3-8b", 'it\'s "quoted"'])
def test_the_curl_line_is_a_shell_command_with_a_json_body(model: str) -> None:
    words = shlex.split(curl_line(replace(INFO, model=model)))
    assert words[:2] == ["curl", f"{INFO.url}/v1/chat/completions"]
    assert json.loads(words[words.index("-d") + 1])["model"] == model
    assert not any("Authorization" in word for word in words)


def test_the_curl_line_sends_a_key_where_one_is_needed() -> None:
    assert "Authorization: Bearer " in curl_line(replace(INFO, needs_key=True))


def test_a_public_address_without_a_key_is_refused(qwenkit) -> None:
    done = qwenkit("serve", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "API_KEYS" in done.stderr
