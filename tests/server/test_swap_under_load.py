"""The demo model under load, while its adapters and the model itself are swapped again and again.

Every answer carries the fingerprint of the model and the adapter's version that wrote it. What each
of them says alone is known beforehand, so a dropped, mixed or truncated answer can't hide.
"""

import asyncio
import json
import random

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from qwenkit.adapters.base import base_of_checkpoint
from qwenkit.adapters.merge import merge_adapter
from qwenkit.models.demo import DEMO_DIR
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

pytestmark = pytest.mark.anyio

N_STREAMS = 16
N_SWAPS = 20
MAX_TOKENS = 24
QUESTIONS = ("What is qwenkit?", "Tell me a story about a cat.", "2 + 3 = ?")


def write_adapter(folder, seed):
    """A PEFT folder of random numbers that changes what the model says."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for module, (n_out, n_in) in base_of_checkpoint(DEMO_DIR).layers.items():
        if module.endswith(("q_proj", "v_proj", "down_proj")):
            prefix = f"base_model.model.{module}"
            a, b = rng.standard_normal((4, n_in)), rng.standard_normal((n_out, 4))
            tensors[f"{prefix}.lora_A.weight"] = (a / n_in**0.5).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = (b / 3).astype(np.float32)
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "bias": "none",
    }
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two versions of two adapters, and another model of the demo's shape."""
    folder = tmp_path_factory.mktemp("files")
    adapters = {
        name: [write_adapter(folder / f"{name}{version}", seed + version) for version in (0, 1)]
        for name, seed in (("poet", 10), ("clerk", 20))
    }
    other = folder / "other.gguf"
    merge_adapter(DEMO_DIR, write_adapter(folder / "merged", 30), other, dtype="f32")
    return folder, adapters, other


@pytest.fixture(scope="module")
def url(files, tmp_path_factory, listening):
    settings = Settings(
        _env_file=None,
        qwenkit_home=tmp_path_factory.mktemp("home"),
        lora_dirs=str(files[0]),
        convert_dtype="f32",
        kv_type="f32",
        n_ctx=2048,
        n_parallel=N_STREAMS,
        n_threads=1,
    )
    with listening(create_app(settings)) as url:
        yield url


def body(name, question):
    return {
        "model": name,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        "stream": True,
    }


async def answer(client, name, question):
    """A streamed answer: the one fingerprint it has, and what it says and how it ends."""
    fingerprints, text, finish, last = set(), "", None, None
    async with client.stream("POST", "/v1/chat/completions", json=body(name, question)) as reply:
        assert reply.status_code == 200, await reply.aread()
        async for line in reply.aiter_lines():
            assert not line.startswith("event: error"), line
            if not line.startswith("data: "):
                continue
            last = line
            if line == "data: [DONE]":
                continue
            chunk = json.loads(line.removeprefix("data: "))
            fingerprints.add(chunk["system_fingerprint"])
            (choice,) = chunk["choices"]
            assert finish is None, "something came after the end"
            delta = choice["delta"]
            text += (delta.get("reasoning_content") or "") + "|" + (delta.get("content") or "")
            finish = choice["finish_reason"]
    assert last == "data: [DONE]"
    assert finish in ("stop", "length")
    (fingerprint,) = fingerprints
    return fingerprint, (text.replace("|", ""), finish)


async def post(client, route, **fields):
    reply = await client.post(route, json=fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_swaps_under_load_drop_mix_and_truncate_nothing(url, files):
    _, adapters, other = files
    names = (None, *adapters)
    alone = {}

    async def learn(client):
        for version in (0, 1):
            for name, sources in adapters.items():
                fields = {"name": name, "path": str(sources[version]), "replace": True}
                await post(client, "/admin/adapters", **fields)
            for name in names:
                for question in QUESTIONS:
                    fingerprint, said = await answer(client, name, question)
                    assert alone.setdefault((fingerprint, question), said) == said

    async def chat(client, seed, done):
        draw = random.Random(seed)
        seen = set()
        while not done.is_set():
            name, question = draw.choice(names), draw.choice(QUESTIONS)
            fingerprint, said = await answer(client, name, question)
            assert said == alone[fingerprint, question]
            seen.add(fingerprint)
        return seen

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await learn(client)
        await post(client, "/admin/reload", model_path=str(other))
        await learn(client)
        texts = {question: set() for question in QUESTIONS}
        for (_, question), said in alone.items():
            texts[question].add(said)
        assert len(alone) == 10 * len(QUESTIONS)
        assert len(texts[QUESTIONS[0]]) == 10, "each model and version says something of its own"

        done = asyncio.Event()
        chatting = [asyncio.create_task(chat(client, seed, done)) for seed in range(N_STREAMS)]
        for i in range(N_SWAPS):
            for name, sources in adapters.items():
                fields = {"name": name, "path": str(sources[i % 2]), "replace": True}
                await post(client, "/admin/adapters", **fields)
            mode = "drain" if i % 4 == 3 else "side_by_side"
            model_path = "" if i % 2 else str(other)
            report = await post(client, "/admin/reload", model_path=model_path, mode=mode)
            assert (report["mode"], report["left_out"]) == (mode, [])
        done.set()
        seen = set().union(*await asyncio.gather(*chatting))
    assert len(seen) == 10, "every model and version has answered"
