"""A running server gets another model: beside the old one, or instead of it."""

import asyncio
import json
import socket
import threading

import httpx
import pytest

from qwenkit.errors import ModelCorrupt, ModelNotFound, OutOfMemory
from qwenkit.settings import KvType

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ADMIN = "/admin/reload"


def content(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


async def wait_for(condition):
    """Let the event loop run until a condition holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def two(models, scripted):
    """Models whose paths are `old`, `new`, and `broken`, which can't be loaded."""

    def fail():
        raise ModelCorrupt("`broken` is truncated")

    models.makers = {
        "old": lambda: scripted("from the old model"),
        "new": lambda: scripted("from the new model"),
        "broken": fail,
    }
    return models


@pytest.fixture
def start(make_app, run, two):
    """A server of the model `old`; gives the client."""

    def start(**settings):
        return run(make_app(**{"models": two, "model_path": "old", **settings}))

    return start


class Held:
    """The loader's thread waits before it loads a model, until it may go on."""

    def __init__(self, models, path):
        self.reached, self._may_go_on = threading.Event(), threading.Event()
        self._path = path
        models.before_load = self._wait

    def _wait(self, spec):
        if spec.model_path == self._path:
            self.reached.set()
            self._may_go_on.wait(10)

    def release(self):
        self._may_go_on.set()


async def test_a_reload_serves_the_new_model_and_frees_the_old_one(start, two, ask):
    async with start() as client:
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the old model"
        reply = await client.post(ADMIN, json={"model_path": "new"})
        assert reply.status_code == 200
        assert reply.json() == {
            "model": "scripted",
            "mode": "side_by_side",
            "seconds": reply.json()["seconds"],
            "adapters": [],
            "left_out": [],
        }
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the new model"
        await wait_for(lambda: two.backends[0].closed)
        assert not two.backends[1].closed
    assert two.backends[1].closed


@pytest.mark.parametrize("stream", [True, False])
async def test_a_running_answer_ends_on_the_model_it_began_with(start, two, ask, events, stream):
    async with start() as client:
        old = two.backends[0]
        old.hold()
        running = asyncio.create_task(client.post(CHAT, json=ask("hello", stream=stream)))
        assert await asyncio.to_thread(old.wait_until_held)
        assert (await client.post(ADMIN, json={"model_path": "new"})).status_code == 200
        status = (await client.get("/admin/status")).json()
        assert status["retired"] == [{"name": "scripted", "n_requests": 1}]
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the new model"
        assert not old.closed
        old.release()
        reply = await running
        if stream:
            chunks = events(reply.text)
            assert chunks[-1] == "[DONE]"
            deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
            text = "".join(delta.get("content") or "" for delta in deltas)
        else:
            text = content(reply)
        assert text == "from the old model"
        await wait_for(lambda: old.closed)
        assert (await client.get("/admin/status")).json()["retired"] == []


async def test_side_by_side_the_old_model_answers_while_the_new_one_loads(start, two, ask):
    held = Held(two, "new")
    async with start() as client:
        reloading = asyncio.create_task(client.post(ADMIN, json={"model_path": "new"}))
        assert await asyncio.to_thread(held.reached.wait, 10)
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the old model"
        assert (await client.get("/readyz")).status_code == 200
        status = (await client.get("/admin/status")).json()
        assert status["state"] == "ready"
        assert status["loading"] == {
            "model_path": "new",
            "mode": "side_by_side",
            "step": "loading",
            "since": status["loading"]["since"],
            "progress": {"description": "Loading", "done": 4, "total": 10, "unit": "B"},
        }
        held.release()
        assert (await reloading).status_code == 200
        assert (await client.get("/admin/status")).json()["loading"] is None


async def test_a_drain_lets_answers_end_and_later_requests_wait_for_the_new_model(start, two, ask):
    async with start() as client:
        old = two.backends[0]
        old.hold()
        running = asyncio.create_task(client.post(CHAT, json=ask("hello")))
        assert await asyncio.to_thread(old.wait_until_held)
        body = {"model_path": "new", "mode": "drain"}
        reloading = asyncio.create_task(client.post(ADMIN, json=body))
        await wait_for(lambda: client.state.serving.paused)
        waiting = [asyncio.create_task(client.post(CHAT, json=ask("hello"))) for _ in range(3)]
        listing = asyncio.create_task(client.get("/v1/models"))
        status = (await client.get("/admin/status")).json()
        assert (status["state"], status["loading"]["step"]) == ("replacing", "draining")
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["model"]) == (200, "scripted")
        assert len(two.backends) == 1
        old.release()
        assert content(await running) == "from the old model"
        assert (await reloading).json()["mode"] == "drain"
        assert old.closed
        for reply in await asyncio.gather(*waiting):
            assert content(reply) == "from the new model"
        assert (await listing).status_code == 200


async def test_the_old_model_is_freed_before_the_new_one_is_loaded_when_draining(start, two):
    closed_at_load = []
    two.before_load = lambda spec: closed_at_load.append([each.closed for each in two.backends])
    async with start() as client:
        await client.post(ADMIN, json={"model_path": "new", "mode": "drain"})
    assert closed_at_load == [[], [True]]


async def test_a_drain_waits_for_answers_of_older_models_too(start, two, ask, scripted):
    two.makers["third"] = lambda: scripted("from the third model")
    closed_at_load = []
    two.before_load = lambda spec: closed_at_load.append([each.closed for each in two.backends])
    async with start() as client:
        old = two.backends[0]
        old.hold()
        running = asyncio.create_task(client.post(CHAT, json=ask("hello")))
        assert await asyncio.to_thread(old.wait_until_held)
        await client.post(ADMIN, json={"model_path": "new"})
        body = {"model_path": "third", "mode": "drain"}
        reloading = asyncio.create_task(client.post(ADMIN, json=body))
        await wait_for(lambda: client.state.serving.paused)
        old.release()
        assert content(await running) == "from the old model"
        assert (await reloading).status_code == 200
    assert closed_at_load == [[], [False], [True, True]]


async def test_a_request_that_waits_too_long_for_a_new_model_is_told_so(start, two, ask):
    held = Held(two, "new")
    async with start(reload_wait_s=0.05) as client:
        body = {"model_path": "new", "mode": "drain"}
        reloading = asyncio.create_task(client.post(ADMIN, json=body))
        assert await asyncio.to_thread(held.reached.wait, 10)
        reply = await client.post(CHAT, json=ask("hello"))
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_not_ready")
        held.release()
        assert (await reloading).status_code == 200
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the new model"


async def test_no_more_requests_wait_for_a_new_model_than_its_queue_holds(start, two, ask):
    held = Held(two, "new")
    async with start() as client:
        body = {"model_path": "new", "mode": "drain", "max_queue": 2}
        reloading = asyncio.create_task(client.post(ADMIN, json=body))
        assert await asyncio.to_thread(held.reached.wait, 10)
        waiting = [asyncio.create_task(client.post(CHAT, json=ask("hello"))) for _ in range(5)]
        await wait_for(lambda: sum(each.done() for each in waiting) == 3)
        refused = [each.result() for each in waiting if each.done()]
        assert {(each.status_code, each.json()["error"]["code"]) for each in refused} == {
            (503, "queue_full")
        }
        assert all(int(each.headers["retry-after"]) for each in refused)
        assert (await client.get("/readyz")).status_code == 200
        held.release()
        assert (await reloading).status_code == 200
        answered = [each for each in await asyncio.gather(*waiting) if each not in refused]
        assert [content(each) for each in answered] == ["from the new model"] * 2


async def test_whoever_leaves_makes_room_for_another_who_waits(start, two, ask):
    held = Held(two, "new")
    async with start() as client:
        body = {"model_path": "new", "mode": "drain", "max_queue": 1}
        reloading = asyncio.create_task(client.post(ADMIN, json=body))
        assert await asyncio.to_thread(held.reached.wait, 10)
        first = asyncio.create_task(client.post(CHAT, json=ask("hello")))
        await wait_for(lambda: client.state.serving.n_waiting == 1)
        first.cancel()
        await wait_for(lambda: client.state.serving.n_waiting == 0)
        second = asyncio.create_task(client.post(CHAT, json=ask("hello")))
        await wait_for(lambda: client.state.serving.n_waiting == 1)
        held.release()
        assert (await reloading).status_code == 200
        assert content(await second) == "from the new model"


async def test_answers_that_take_too_long_to_end_keep_the_old_model(start, two, ask):
    async with start() as client:
        old = two.backends[0]
        old.hold()
        running = asyncio.create_task(client.post(CHAT, json=ask("hello")))
        assert await asyncio.to_thread(old.wait_until_held)
        body = {"model_path": "new", "mode": "drain", "drain_timeout_s": 0}
        reply = await client.post(ADMIN, json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "answers_running")
        old.release()
        assert content(await running) == "from the old model"
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the old model"
        assert len(two.backends) == 1


@pytest.mark.parametrize("mode", ["auto", "side_by_side", "drain"])
async def test_a_failed_load_says_why_and_the_old_model_serves_on(start, two, ask, mode):
    async with start() as client:
        reply = await client.post(ADMIN, json={"model_path": "broken", "mode": mode})
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "file_corrupt"
        assert "truncated" in reply.json()["error"]["message"]
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the old model"
        status = (await client.get("/admin/status")).json()
        assert (status["state"], status["model"]["model_path"]) == ("ready", "old")
        assert "truncated" in status["last_error"]["message"]


async def test_what_can_be_known_before_is_known_before_anything_is_drained(start, two):
    def fits(spec, progress):
        if spec.model_path == "nothing":
            raise ModelNotFound("there is no `nothing`")
        return True

    async with start(fits=fits) as client:
        reply = await client.post(ADMIN, json={"model_path": "nothing", "mode": "drain"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "file_not_found")
        assert len(two.backends) == 1
        assert not two.backends[0].closed


async def test_a_server_that_lost_both_models_says_so_and_can_be_given_another(start, two, ask):
    async with start() as client:
        two.makers["old"] = two.makers["broken"]
        await client.post(ADMIN, json={"model_path": "broken", "mode": "drain"})
        reply = await client.post(CHAT, json=ask("hello"))
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_not_ready")
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/admin/status")).json()["state"] == "failed"
        assert (await client.post(ADMIN, json={"model_path": "new"})).status_code == 200
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the new model"


async def test_a_model_that_can_not_be_loaded_at_the_start_can_be_replaced(make_app, run, two, ask):
    async with run(make_app(models=two, model_path="broken"), wait=False) as client:
        await wait_for(lambda: client.state.reloader.running is None)
        assert (await client.get("/admin/status")).json()["state"] == "failed"
        assert (await client.post(ADMIN, json={"model_path": "new"})).status_code == 200
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the new model"


@pytest.mark.parametrize(("fits", "mode"), [(True, "side_by_side"), (False, "drain")])
async def test_auto_goes_by_the_memory_that_is_free(start, fits, mode):
    async with start(fits=lambda spec, progress: fits) as client:
        reply = await client.post(ADMIN, json={"model_path": "new", "mode": "auto"})
        assert reply.json()["mode"] == mode


async def test_auto_drains_where_the_estimate_was_wrong(start, two, ask):
    def need_room(spec):
        if spec.model_path == "new" and not two.backends[0].closed:
            raise OutOfMemory("it does not fit")

    two.before_load = need_room
    async with start() as client:
        assert (await client.post(ADMIN, json={"model_path": "new"})).json()["mode"] == "drain"
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the new model"


async def test_the_setting_decides_where_a_request_does_not(start):
    async with start(reload_mode="drain") as client:
        assert (await client.post(ADMIN, json={"model_path": "new"})).json()["mode"] == "drain"


async def test_only_one_reload_runs_at_a_time(start, two):
    held = Held(two, "new")
    async with start() as client:
        first = asyncio.create_task(client.post(ADMIN, json={"model_path": "new"}))
        assert await asyncio.to_thread(held.reached.wait, 10)
        second = await client.post(ADMIN, json={"model_path": "old"})
        assert (second.status_code, second.json()["error"]["code"]) == (409, "reload_running")
        held.release()
        assert (await first).status_code == 200


async def test_a_reload_changes_what_it_names_and_keeps_the_rest(start, two):
    async with start(n_ctx=2048, n_parallel=3) as client:
        await client.post(ADMIN, json={"n_ctx": 4096, "kv_type": "q8_0", "n_parallel": None})
        await client.post(ADMIN, json={"use_mmap": False, "model_path": ""})
    first, second, third = two.specs
    assert (first.model_path, first.n_ctx, first.n_parallel) == ("old", 2048, 3)
    assert (second.model_path, second.n_ctx, second.n_parallel) == ("old", 4096, 3)
    assert (third.model_path, third.n_ctx, third.kv_type) == (None, 4096, KvType.Q8_0)
    assert not third.use_mmap


async def test_a_failed_reload_does_not_change_what_the_next_one_starts_from(start, two):
    async with start() as client:
        await client.post(ADMIN, json={"model_path": "broken", "n_ctx": 512})
        await client.post(ADMIN, json={"n_batch": 64})
    assert (two.specs[-1].model_path, two.specs[-1].n_ctx) == ("old", 0)


async def test_a_reload_can_give_the_model_another_name(start, ask):
    async with start() as client:
        await client.post(ADMIN, json={"model_path": "new", "name": "fresh"})
        ids = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        assert ids == ["fresh"]
        for name, status in (("fresh", 200), ("new", 200), ("old", 404), ("scripted", 404)):
            reply = await client.post(CHAT, json=ask("hello", model=name))
            assert reply.status_code == status


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n_ctx": -1}, "n_ctx"),
        ({"n_ctx": "many"}, "n_ctx"),
        ({"n_ctx": 1.5}, "n_ctx"),
        ({"n_ctx": True}, "n_ctx"),
        ({"n_parallel": 0}, "n_parallel"),
        ({"kv_type": "f128"}, "kv_type"),
        ({"runtime_backend": "vllm"}, "runtime_backend"),
        ({"model_path": 7}, "model_path"),
        ({"model_path": ["a"]}, "model_path"),
        ({"use_mmap": "maybe"}, "use_mmap"),
        ({"hub_token": "secret"}, "hub_token"),
        ({"qwenkit_home": "/tmp"}, "qwenkit_home"),
        ({"nctx": 4096}, "nctx"),
        ({"mode": "quickly"}, "mode"),
        ({"mode": 3}, "mode"),
        ({"name": ""}, "name"),
        ({"name": "x" * 300}, "name"),
        ({"name": "\n"}, "name"),
        ({"name": " a"}, "name"),
        ({"drain_timeout_s": -1}, "drain_timeout_s"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_loaded(start, two, body, param):
    async with start() as client:
        reply = await client.post(ADMIN, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert len(two.specs) == 1


@pytest.mark.parametrize("body", ["", "[]", "{", '{"n_ctx": NaN}', '"new"', '{"n_ctx": 1e999}'])
async def test_a_body_that_is_no_object_is_refused(start, two, body):
    async with start() as client:
        headers = {"Content-Type": "application/json"}
        reply = await client.post(ADMIN, content=body, headers=headers)
    assert reply.status_code == 400
    assert len(two.specs) == 1


async def test_counters_go_on_and_gauges_are_the_new_models(start, two, ask, scripted):
    two.makers["new"] = lambda: scripted("from the new model", n_slots=2)

    def value(page, name):
        lines = (line for line in page.splitlines() if line.startswith(f"{name} "))
        return float(next(lines).split()[1])

    async with start() as client:
        await client.post(CHAT, json=ask("hello"))
        before = (await client.get("/metrics")).text
        await client.post(ADMIN, json={"model_path": "new"})
        await client.post(ADMIN, json={"model_path": "broken"})
        await client.post(CHAT, json=ask("hello"))
        after = (await client.get("/metrics")).text
    tokens = "qwenkit_generated_tokens_total"
    assert value(after, tokens) > value(before, tokens) > 0
    assert (value(before, "qwenkit_slots"), value(after, "qwenkit_slots")) == (4, 2)
    assert value(after, 'qwenkit_reloads_total{outcome="loaded"}') == 1
    assert value(after, 'qwenkit_reloads_total{outcome="failed"}') == 1


async def test_a_model_is_as_old_as_its_loading(start):
    async with start() as client:
        status = (await client.get("/admin/status")).json()
        (model,) = (await client.get("/v1/models")).json()["data"]
        assert model["created"] == int(status["model"]["since"])
        await client.post(ADMIN, json={"model_path": "new"})
        later = (await client.get("/admin/status")).json()
        assert later["model"]["since"] > status["model"]["since"]


async def test_a_reload_goes_on_when_whoever_asked_for_it_leaves(start, two, ask):
    held = Held(two, "new")
    async with start() as client:
        asking = asyncio.create_task(client.post(ADMIN, json={"model_path": "new"}))
        assert await asyncio.to_thread(held.reached.wait, 10)
        asking.cancel()
        held.release()
        await wait_for(lambda: client.state.reloader.running is None)
        assert content(await client.post(CHAT, json=ask("hello"))) == "from the new model"


async def test_a_server_that_ends_while_it_reloads_frees_both_models(start, two):
    held = Held(two, "new")
    async with start() as client:
        asking = asyncio.create_task(client.post(ADMIN, json={"model_path": "new"}))
        assert await asyncio.to_thread(held.reached.wait, 10)
        await client.state.reloader.close()
        reply = await asking
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")
        await client.state.serving.close()
    held.release()
    await wait_for(lambda: len(two.backends) == 2 and all(each.closed for each in two.backends))


async def test_requests_that_wait_for_a_model_are_told_when_the_server_ends(start, two, ask):
    held = Held(two, "new")
    async with start() as client:
        body = {"model_path": "new", "mode": "drain"}
        reloading = asyncio.create_task(client.post(ADMIN, json=body))
        assert await asyncio.to_thread(held.reached.wait, 10)
        waiting = asyncio.create_task(client.post(CHAT, json=ask("hello")))
        await asyncio.sleep(0)
        await client.state.reloader.close()
        await client.state.serving.drain(1)
        assert (await waiting).json()["error"]["code"] == "shutting_down"
        assert (await reloading).json()["error"]["code"] == "shutting_down"
    held.release()


def test_a_client_that_goes_away_gives_its_model_free(make_app, listening, two, ask, until):
    content = json.dumps(ask("hello", stream=True)).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    with listening(make_app(models=two, model_path="old")) as url:
        (old,) = two.backends
        old.hold()
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
            connection.sendall(head.encode() + content)
            assert old.wait_until_held()
            assert httpx.post(url + ADMIN, json={"model_path": "new"}).status_code == 200
            assert not old.closed
        until(lambda: old.closed)


async def test_many_reloads_under_load_drop_and_mix_nothing(start, two, ask, scripted):
    answers = {f"m{i}": f"{i} " * 50 for i in range(4)}
    two.makers |= {path: lambda text=text: scripted(text) for path, text in answers.items()}
    wanted = {"from the old model", *(text.rstrip() for text in answers.values())}
    wanted |= set(answers.values())
    done = asyncio.Event()

    async def chat(client):
        texts = []
        while not done.is_set():
            texts.append(content(await client.post(CHAT, json=ask("hello"))))
        return texts

    async with start() as client:
        chatting = [asyncio.create_task(chat(client)) for _ in range(8)]
        for i in range(12):
            mode = "drain" if i % 3 == 2 else "side_by_side"
            reply = await client.post(ADMIN, json={"model_path": f"m{i % 4}", "mode": mode})
            assert reply.status_code == 200
        done.set()
        texts = [text for each in await asyncio.gather(*chatting) for text in each]
    assert set(texts) <= wanted
    assert all(backend.closed for backend in two.backends)
