"""Two replicas on this machine, run by Ray Serve: what a client and an operator see."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from qwenkit.adapters.base import base_of_checkpoint
from qwenkit.models.demo import DEMO_DIR, DEMO_NAME

from .conftest import USER, Cluster, wait_until

pytestmark = pytest.mark.ray


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": DEMO_NAME, "messages": [{"role": "user", "content": text}], **fields}


def metric(cluster: Cluster, name: str) -> dict[str, float]:
    with cluster.client() as client:
        page = client.get("/metrics").text
    found = re.findall(rf'^{name}{{.*?replica="(\w+)".*?}} (\S+)$', page, re.MULTILINE)
    return {replica: float(value) for replica, value in found}


def test_who_may_what_is_as_with_one_server(cluster: Cluster) -> None:
    url = cluster.url
    user = {"Authorization": f"Bearer {USER}"}
    with httpx.Client(timeout=60) as client:
        assert client.get(f"{url}/healthz").status_code == 200
        assert client.get(f"{url}/v1/models").status_code == 401
        assert client.get(f"{url}/metrics").status_code == 401
        refused = client.post(f"{url}/v1/chat/completions", json=chat("hello"))
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.post(f"{url}/admin/reload", json={}, headers=user).status_code == 403
        answer = client.post(f"{url}/v1/chat/completions", json=chat("Hello!"), headers=user)
        assert answer.status_code == 200
        assert len(answer.headers.get_list("x-request-id")) == 1


def test_tokens_are_streamed_as_they_are_written(cluster: Cluster) -> None:
    with cluster.client() as client:
        body = chat("What is qwenkit?", stream=True, stream_options={"include_usage": True})
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            events = [line for line in answer.iter_lines() if line.startswith("data: ")]
        assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "data: [DONE]"
    usage = json.loads(events[-2].removeprefix("data: "))["usage"]
    assert len(events) >= usage["completion_tokens"] / 2


def test_a_client_that_leaves_ends_its_answer(cluster: Cluster) -> None:
    def ended() -> float:
        with cluster.client() as client:
            page = client.get("/metrics").text
        found = re.findall(
            r'^qwenkit_choices_total{.*outcome="cancelled".*} (\S+)$', page, re.MULTILINE
        )
        return sum(map(float, found))

    before = ended()
    with cluster.client() as client:
        body = chat("Tell me a story", stream=True, max_tokens=3500, ignore_eos=True)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            next(answer.iter_lines())
    wait_until(lambda: ended() == before + 1, 20)
    assert not any(metric(cluster, "qwenkit_slots_used").values())


def test_a_conversation_finds_the_replica_that_has_its_beginning(cluster: Cluster) -> None:
    system = "You are patient. " * 40
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Hello!"}]
    cached = []
    with cluster.client() as client:
        for _ in range(6):
            body = {"model": DEMO_NAME, "messages": messages, "max_tokens": 8}
            answer = client.post("/v1/chat/completions", json=body).json()
            messages.append(answer["choices"][0]["message"] | {"content": "x"})
            messages.append({"role": "user", "content": "And then?"})
            details = answer["usage"]["prompt_tokens_details"]
            cached.append(details["cached_tokens"] / answer["usage"]["prompt_tokens"])
    assert all(share > 0.7 for share in cached[1:]), cached


def test_many_conversations_spread_over_all_replicas(cluster: Cluster) -> None:
    before = metric(cluster, "qwenkit_generated_tokens_total")

    def ask(n: int) -> int:
        with cluster.client() as client:
            body = chat(f"Question {n}", max_tokens=100, ignore_eos=True)
            return client.post("/v1/chat/completions", json=body).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(32))) == {200}
    after = metric(cluster, "qwenkit_generated_tokens_total")
    shares = [after[name] - before.get(name, 0) for name in after]
    assert len(shares) == 2
    assert min(shares) > 0.25 * sum(shares), shares


def test_the_agent_has_one_home(cluster: Cluster) -> None:
    with cluster.client() as client:
        thread = client.post("/agent/threads", json={}).json()["thread_id"]
        messages = [{"role": "user", "content": "Hello!"}]
        body = {"assistant_id": "agent", "input": {"messages": messages}}
        client.post(f"/agent/threads/{thread}/runs/wait", json=body)
        for _ in range(10):
            state = client.get(f"/agent/threads/{thread}/state").json()
            assert len(state["values"]["messages"]) == 2


def test_an_mcp_session_goes_on_where_it_began(cluster: Cluster) -> None:
    accept = {"Accept": "application/json, text/event-stream"}
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    with cluster.client() as client:
        for _ in range(4):
            call = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
            opened = client.post("/mcp", json=call, headers=accept)
            headers = {**accept, "Mcp-Session-Id": opened.headers["mcp-session-id"]}
            done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            assert client.post("/mcp", json=done, headers=headers).status_code == 202
            listed = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
            for _ in range(3):
                assert client.post("/mcp", json=listed, headers=headers).status_code == 200


def test_an_answer_can_be_rated_through_whichever_replica(cluster: Cluster) -> None:
    with cluster.client() as client:
        for n in range(6):
            answer = client.post("/v1/chat/completions", json=chat(f"Rate me {n}", max_tokens=4))
            rating = {"answer_id": answer.json()["id"], "thumb": "up"}
            given = client.post("/v1/feedback", json=rating)
            assert given.status_code == 201, given.text
        assert client.get("/v1/feedback/stats").status_code == 200


@pytest.fixture
def adapter(cluster: Cluster) -> Path:
    """A PEFT folder with a LoRA that changes something, where the server may take it from."""
    from safetensors.numpy import save_file

    folder = cluster.folder / "home" / "adapters" / "poet"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    base = base_of_checkpoint(DEMO_DIR)
    tensors = {}
    for module, (n_out, n_in) in base.layers.items():
        if module.endswith("q_proj"):
            name = f"base_model.model.{module}"
            tensors[f"{name}.lora_A.weight"] = rng.standard_normal((4, n_in), dtype=np.float32)
            tensors[f"{name}.lora_B.weight"] = rng.standard_normal((n_out, 4), dtype=np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": DEMO_NAME,
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def names_of(cluster: Cluster) -> list[set[str]]:
    with cluster.client() as client:
        status = client.get("/admin/status").json()
    return [
        {each["model"]["name"], *(adapter["name"] for adapter in each["adapters"])}
        for each in status["replicas"]
    ]


@contextlib.contextmanager
def asking(cluster: Cluster, body: dict[str, Any], n_clients: int = 3) -> Iterator[list[Any]]:
    """Clients that ask without a pause, and never again what failed; their answers' statuses."""
    found: list[Any] = []
    stop = threading.Event()

    def ask(n: int) -> None:
        with cluster.client(USER) as client:
            while not stop.is_set():
                messages = [{"role": "user", "content": f"{n} {len(found)}"}]
                asked = {**body, "messages": messages}
                try:
                    answer = client.post("/v1/chat/completions", json=asked)
                    found.append(answer.status_code)
                except httpx.HTTPError as exc:
                    found.append(repr(exc))

    with concurrent.futures.ThreadPoolExecutor(n_clients) as pool:
        for n in range(n_clients):
            pool.submit(ask, n)
        try:
            yield found
        finally:
            stop.set()


def test_a_change_reaches_all_replicas_one_after_the_other_and_no_request_fails(
    cluster: Cluster, adapter: Path
) -> None:
    with cluster.client() as client, asking(cluster, chat("", max_tokens=20)) as found:
        wait_until(lambda: len(found) > 6)
        loaded = client.post("/admin/adapters", json={"name": "poet", "path": str(adapter)})
        assert loaded.status_code == 200, loaded.text
        reloaded = client.post("/admin/reload", json={"n_ctx": 2048})
        assert reloaded.status_code == 200, reloaded.text
        n = len(found)
        wait_until(lambda: len(found) > n + 6)
        wrong = client.post("/admin/reload", json={"model_path": "/nowhere"})
        assert wrong.status_code == 404
    assert Counter(found) == {200: len(found)}
    assert names_of(cluster) == [{DEMO_NAME, "poet"}] * 2
    with cluster.client() as client:
        models = [each["model"] for each in client.get("/admin/status").json()["replicas"]]
        assert [each["n_ctx"] for each in models] == [2048, 2048]
        answer = client.post("/v1/chat/completions", json=chat("Hello!") | {"model": "poet"})
        assert answer.json()["model"] == "poet"


def processes() -> list[int]:
    """The replicas' processes."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if b"ServeReplica:qwenkit:replica" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def test_no_request_fails_when_a_replica_is_killed_and_the_next_has_what_was_changed(
    cluster: Cluster,
) -> None:
    before = cluster.replicas()
    changed = names_of(cluster)[0]
    with asking(cluster, chat("", max_tokens=60, ignore_eos=True)) as found:
        wait_until(lambda: len(found) > 6)
        os.kill(processes()[0], signal.SIGKILL)
        n = len(found)
        wait_until(lambda: len(found) > n + 20)
        wait_until(lambda: len(cluster.replicas()) == 2 and cluster.replicas() != before, 200)
        assert names_of(cluster) == [changed] * 2
    assert Counter(found) == {200: len(found)}


def test_a_stream_whose_replica_is_killed_says_so_and_the_client_can_ask_again(
    cluster: Cluster,
) -> None:
    body = chat("A long one", stream=True, max_tokens=1500, ignore_eos=True)
    wait_until(lambda: len(cluster.replicas()) == 2, 200)
    with cluster.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            for process in processes():
                os.kill(process, signal.SIGKILL)
            rest = [line for line in lines if line.startswith("data: ")]
        assert "error" in json.loads(rest[-1].removeprefix("data: "))
        wait_until(
            lambda: (
                client.post("/v1/chat/completions", json=chat("Hello!", max_tokens=4)).status_code
                == 200
            ),
            200,
        )
