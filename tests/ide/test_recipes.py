"""The guide's recipes: what they show can be read, and the addresses in them answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guides/ide.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
URLS = sorted(set(re.findall(r"http://127\.0\.0\.1:8000[\w/]*", GUIDE)))
BASES = {"", "/v1"}
"""What an editor adds its own paths to."""
MOUNTED = {"/mcp"}


def test_every_piece_of_json_is_some() -> None:
    read = [json.loads(text) for language, text in BLOCKS if language == "json"]
    assert len(read) == 2


@pytest.mark.parametrize("address", URLS)
def test_every_address_is_one_of_the_servers(client: httpx.Client, address: str) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    path = urlsplit(address).path
    assert path in BASES or path in MOUNTED or path in paths


def test_the_recommended_extensions_can_be_read() -> None:
    read = json.loads((ROOT / ".vscode/extensions.json").read_text(encoding="utf-8"))
    assert {"continue.continue", "ggml-org.llama-vscode"} <= set(read["recommendations"])


def test_what_minuet_sends_is_answered(client: httpx.Client) -> None:
    body = {
        "model": "qwenkit-demo",
        "prompt": "def add(a, b):\n    ",
        "suffix": "\n",
        "max_tokens": 64,
        "stream": True,
    }
    reply = client.post("/v1/completions", json=body)
    assert reply.status_code == 200
    assert '"finish_reason":"stop"' in reply.text


def test_llama_vims_warm_up_for_an_instruction_only_computes_the_prompt(
    client: httpx.Client,
) -> None:
    body = {
        "id_slot": 0,
        "messages": [{"role": "user", "content": "What is qwenkit?"}],
        "samplers": [],
        "n_predict": 0,
        "stream": False,
        "cache_prompt": True,
        "response_fields": [""],
        "model": "",
    }
    answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    assert answer["usage"]["completion_tokens"] == 0
    again = client.post("/v1/chat/completions", json=body).json()["usage"]
    assert again["prompt_tokens_details"]["cached_tokens"] >= again["prompt_tokens"] - 1


def test_what_llama_vim_asks_in_an_instruction_is_answered(client: httpx.Client) -> None:
    body = {
        "id_slot": 0,
        "messages": [{"role": "user", "content": "What is qwenkit?"}],
        "min_p": 0.1,
        "temperature": 0.1,
        "samplers": ["min_p", "temperature"],
        "stream": True,
        "cache_prompt": True,
        "model": "",
    }
    reply = client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200
    assert "[DONE]" in reply.text
