"""Streams that can be joined again."""

import asyncio

import httpx
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def thread_id(sdk):
    return (await sdk.threads.create())["thread_id"]


async def collect(stream):
    return [part async for part in stream]


async def test_a_stream_is_joined_behind_the_last_event_that_the_client_has(sdk, thread_id, say):
    whole = await collect(
        sdk.runs.stream(
            thread_id,
            "agent",
            input=say("hello"),
            stream_mode="messages-tuple",
            stream_resumable=True,
        )
    )
    run_id = whole[0].data["run_id"]
    ids = [part.id for part in whole]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    for after, rest in ((ids[3], whole[4:]), ("-1", whole), (None, whole), (ids[-1], [])):
        joined = await collect(sdk.runs.join_stream(thread_id, run_id, last_event_id=after))
        assert joined == rest


async def test_only_the_modes_that_are_asked_for_are_told(sdk, thread_id, say):
    run = await sdk.runs.create(
        thread_id,
        "agent",
        input=say("hello"),
        stream_mode=["values", "messages-tuple", "updates"],
        stream_resumable=True,
    )
    joined = await collect(
        sdk.runs.join_stream(thread_id, run["run_id"], stream_mode="updates", last_event_id="-1")
    )
    assert {part.event for part in joined} == {"metadata", "updates"}


async def test_a_stream_is_joined_in_mid_answer_and_read_to_its_end(sdk, thread_id, say, backend):
    backend.hold()
    run = await sdk.runs.create(
        thread_id, "agent", input=say("hello"), stream_mode="values", stream_resumable=True
    )
    joining = asyncio.create_task(collect(sdk.runs.join_stream(thread_id, run["run_id"])))
    backend.release()
    parts = await joining
    assert [part.event for part in parts] == ["metadata", "values", "values"]
    assert parts[-1].data["messages"][-1]["content"] == "Hello there!"


async def test_events_of_a_stream_that_is_not_resumable_have_no_ids(server, sdk, thread_id, say):
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent") as client:
        body = {"assistant_id": "agent", "input": say("hello")}
        reply = await client.post(f"/threads/{thread_id}/runs/stream", json=body)
        assert "id:" not in reply.text
        place = reply.headers["content-location"]
        late = await client.get(place + "/stream", headers={"Last-Event-ID": "-1"})
    assert "event:" not in late.text


async def test_the_answer_says_where_the_run_is_and_that_nobody_may_keep_it(
    server, sdk, thread_id, say
):
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent") as client:
        body = {"assistant_id": "agent", "input": say("hello")}
        reply = await client.post(f"/threads/{thread_id}/runs/stream", json=body)
    [run] = await sdk.runs.list(thread_id)
    place = f"/threads/{thread_id}/runs/{run['run_id']}"
    assert reply.headers["content-location"] == place
    assert reply.headers["location"] == f"{place}/stream"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["content-type"].startswith("text/event-stream")


async def test_a_run_without_a_thread_is_joined_by_its_id_alone(server, sdk, say):
    options = {"stream_resumable": True, "on_completion": "keep"}
    run = await sdk.runs.create(None, "agent", input=say("hello"), **options)
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent") as client:
        joined = await client.get(f"/runs/{run['run_id']}/stream")
        assert '"content":"Hello there!"' in joined.text
        assert (await client.get("/runs/none/stream")).status_code == 404


async def test_a_threads_stream_tells_of_all_its_runs(sdk, thread_id, say, backend):
    backend.hold()
    run = await sdk.runs.create(thread_id, "agent", input=say("hello"))
    assert await asyncio.to_thread(backend.wait_until_held)
    stream = await sdk.threads.join_stream(thread_id)
    seen = []

    async def listen():
        async for part in stream:
            seen.append(part)
            if part.event == "values" and len(part.data["messages"]) == 4:
                return

    listening = asyncio.create_task(listen())
    await sdk.runs.create(thread_id, "agent", input=say("encore"))
    backend.release()
    await listening
    await stream.aclose()
    assert seen[-4].data["messages"][-1]["content"] == "Hello there!"
    assert [part.event for part in seen[-3:]] == ["metadata", "values", "values"]
    assert seen[-3].data["run_id"] != run["run_id"]


async def test_joining_can_end_the_run_with_the_client(sdk, thread_id, say, backend, server):
    backend.hold()
    run = await sdk.runs.create(thread_id, "agent", input=say("long"), stream_resumable=True)
    stream = sdk.runs.join_stream(thread_id, run["run_id"], cancel_on_disconnect=True)
    await anext(stream)
    assert await asyncio.to_thread(backend.wait_until_held)
    await stream.aclose()
    while (await sdk.runs.get(thread_id, run["run_id"]))["status"] != "interrupted":
        await asyncio.sleep(0.01)
    backend.release()
