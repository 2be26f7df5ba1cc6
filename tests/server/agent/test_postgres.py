"""Threads in PostgreSQL. Needs TEST_DATABASE_URL, an empty database of that kind."""

import os

import pytest

pytest.importorskip("langgraph.checkpoint.postgres")

from langgraph_sdk import get_client

URL = os.environ.get("TEST_DATABASE_URL")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(URL is None, reason="needs TEST_DATABASE_URL"),
]


def client_of(url):
    return get_client(url=f"{url}/agent", api_key=None)


async def test_threads_live_in_postgres_and_outlive_the_server(make_app, listening, fresh, say):
    with listening(make_app(models=fresh, database_url=URL)) as url:
        async with client_of(url) as sdk:
            thread_id = (await sdk.threads.create(metadata={"title": "sums"}))["thread_id"]
            await sdk.runs.wait(thread_id, "agent", input=say("hello"))
            await sdk.runs.wait(thread_id, "agent", input=say("sum"), interrupt_before=["tools"])
            before = await sdk.threads.get(thread_id)
            history = await sdk.threads.get_history(thread_id)
            runs = await sdk.runs.list(thread_id)
    with listening(make_app(models=fresh, database_url=URL)) as url:
        async with client_of(url) as sdk:
            assert await sdk.threads.get(thread_id) == before
            assert await sdk.threads.get_history(thread_id) == history
            assert await sdk.runs.list(thread_id) == runs
            [found] = await sdk.threads.search(metadata={"title": "sums"})
            assert found["thread_id"] == thread_id
            state = await sdk.runs.wait(thread_id, "agent")
            assert state["messages"][-1]["content"] == "It is 391."
            await sdk.threads.delete(thread_id)
            assert await sdk.threads.count(metadata={"title": "sums"}) == 0


async def test_histories_are_copied_pruned_and_rolled_back_in_postgres(
    live, connected, say, backend
):
    async with connected(live(database_url=URL)) as sdk:
        thread_id = (await sdk.threads.create())["thread_id"]
        await sdk.runs.wait(thread_id, "agent", input=say("hello"))
        await sdk.runs.wait(thread_id, "agent", input=say("delete"))
        copy_id = (await sdk.threads.copy(thread_id))["thread_id"]
        history, copied = [await sdk.threads.get_history(each) for each in (thread_id, copy_id)]
        assert [each["values"] for each in copied] == [each["values"] for each in history]
        approve = {"resume": {"decisions": [{"type": "approve"}]}}
        state = await sdk.runs.wait(copy_id, "agent", command=approve)
        assert state["messages"][-1]["content"] == "It is gone."
        assert (await sdk.threads.get(thread_id))["status"] == "interrupted"

        before = await sdk.threads.get_state(copy_id)
        async for part in sdk.runs.stream(
            copy_id, "agent", input=say("long"), stream_mode="messages-tuple"
        ):
            if part.event == "metadata":
                run_id = part.data["run_id"]
            elif part.data[0]["content"] == "l":
                break
        await sdk.runs.cancel(copy_id, run_id, wait=True, action="rollback")
        assert await sdk.threads.get_state(copy_id) == before

        await sdk.threads.prune([copy_id], strategy="keep_latest")
        assert len(await sdk.threads.get_history(copy_id)) == 1
        await sdk.threads.prune([thread_id, copy_id])


async def test_a_postgres_that_is_not_there_is_said_so_without_its_password(live):
    import httpx

    app = live(database_url="postgresql://me:secret@127.0.0.1:1/x?connect_timeout=1")
    async with httpx.AsyncClient(base_url=app.state.url, timeout=60) as client:
        reply = await client.get("/agent/info")
    assert reply.status_code == 500
    assert "DATABASE_URL" in reply.json()["error"]["message"]
    assert "secret" not in reply.text
