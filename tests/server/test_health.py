import asyncio
import threading

import pytest

from qwenkit.errors import ModelNotFound

pytestmark = pytest.mark.anyio


async def test_a_ready_server_says_so(client):
    for path in ("/healthz", "/readyz", "/health"):
        reply = await client.get(path)
        assert reply.status_code == 200
        assert reply.json()["status"] == "ok"
    assert (await client.get("/readyz")).json()["model"] == "scripted"


async def test_a_server_that_loads_lives_but_takes_no_requests(make_app, run, ask):
    may_load = threading.Event()
    app = make_app(before_load=lambda: may_load.wait(10))
    async with run(app, wait=False) as client:
        assert (await client.get("/healthz")).status_code == 200
        for reply in (
            await client.get("/readyz"),
            await client.get("/v1/models"),
            await client.post("/v1/chat/completions", json=ask("hello")),
            await client.post("/v1/chat/completions", json=ask("hello", stream=True)),
            await client.post("/v1/completions", json={"prompt": "hello"}),
        ):
            assert reply.status_code == 503
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] == "model_not_ready"
        assert b"qwenkit_requests_total" in (await client.get("/metrics")).content
        may_load.set()
        await app.state.serving.loaded()
        assert (await client.get("/readyz")).status_code == 200


async def test_a_model_that_can_not_be_loaded_leaves_a_server_that_says_so(make_app, run):
    def fail():
        raise ModelNotFound("no model at /secret/path")

    app = make_app(before_load=fail)
    async with run(app, wait=False) as client:
        with pytest.raises(ModelNotFound):
            await app.state.serving.loaded()
        reply = await client.get("/readyz")
    assert reply.status_code == 503
    assert "secret" not in reply.text


async def test_a_model_that_is_loaded_after_the_end_is_freed(make_app, run, backend, until):
    loads, may_load = threading.Event(), threading.Event()
    async with run(make_app(before_load=lambda: (loads.set(), may_load.wait(10))), wait=False):
        assert await asyncio.to_thread(loads.wait, 10)
    may_load.set()
    until(lambda: backend.closed)


async def test_a_stopped_server_has_freed_its_model(make_app, run, backend):
    async with run(make_app()):
        assert not backend.closed
    assert backend.closed


async def test_a_draining_server_takes_nothing_new(make_app, run, ask):
    app = make_app()
    async with run(app) as client:
        await app.state.serving.drain(1)
        for reply in (
            await client.get("/readyz"),
            await client.post("/v1/chat/completions", json=ask("hello")),
        ):
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == "shutting_down"
