"""Several runs of one thread, and runs that are cut off."""

import asyncio

import httpx
import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def thread_id(sdk):
    return (await sdk.threads.create())["thread_id"]


@pytest.fixture
def engine(server):
    return server.state.serving.model.engine


@pytest.fixture
def begin(sdk, thread_id, say, backend):
    """Starts a long answer and holds it when some of it is written; gives its run."""

    async def begin(**options):
        options = {"stream_mode": "messages-tuple", **options}
        stream = sdk.runs.stream(thread_id, "agent", input=say("long"), **options)
        run_id = None
        async for part in stream:
            run_id = run_id or part.data["run_id"]
            if part.event == "messages" and part.data[0]["content"] == "l":
                break
        await hold(backend)
        return run_id, stream

    return begin


async def hold(backend):
    backend.hold()
    assert await asyncio.to_thread(backend.wait_until_held)


async def settled(sdk, thread_id, run_id):
    while (run := await sdk.runs.get(thread_id, run_id))["status"] in ("pending", "running"):
        await asyncio.sleep(0.01)
    return run


async def status_of(sdk, thread_id, run_id):
    return (await sdk.runs.get(thread_id, run_id))["status"]


async def until_idle(engine):
    while engine.snapshot().n_running + engine.snapshot().n_waiting:
        await asyncio.sleep(0.01)


async def test_a_cancelled_run_frees_its_slot_and_keeps_what_was_written(
    sdk, thread_id, begin, engine, backend
):
    run_id, _ = await begin()
    assert engine.snapshot().n_running == 1
    await sdk.runs.cancel(thread_id, run_id)
    await until_idle(engine)
    assert (await settled(sdk, thread_id, run_id))["status"] == "interrupted"
    thread = await sdk.threads.get(thread_id)
    assert thread["status"] == "idle"
    partial = thread["values"]["messages"][-1]
    assert partial["content"].startswith("l")
    assert partial["response_metadata"]["finish_reason"] == "cancelled"
    assert (await sdk.threads.get_state(thread_id))["next"] == []
    backend.release()


async def test_cancelling_can_wait_for_the_end(sdk, thread_id, begin, backend):
    run_id, _ = await begin()
    await sdk.runs.cancel(thread_id, run_id, wait=True)
    assert await status_of(sdk, thread_id, run_id) == "interrupted"
    await sdk.runs.cancel(thread_id, run_id, wait=True)
    backend.release()


async def test_rolling_back_undoes_what_the_run_did(sdk, thread_id, begin, say, backend):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    before = await sdk.threads.get_state(thread_id)
    run_id, _ = await begin()
    await sdk.runs.cancel(thread_id, run_id, wait=True, action="rollback")
    assert await sdk.threads.get_state(thread_id) == before
    assert len(await sdk.threads.get_history(thread_id)) == 3
    with pytest.raises(NotFoundError):
        await sdk.runs.get(thread_id, run_id)
    backend.release()


async def test_the_partial_answer_of_a_regenerated_one_stays_on_its_branch(
    sdk, thread_id, say, backend
):
    await sdk.runs.wait(thread_id, "agent", input=say("long"), context={"max_tokens": 20})
    [_, before, _] = await sdk.threads.get_history(thread_id)
    stream = sdk.runs.stream(
        thread_id, "agent", checkpoint=before["checkpoint"], stream_mode="messages-tuple"
    )
    async for part in stream:
        if part.event == "metadata":
            run_id = part.data["run_id"]
        elif part.data[0]["content"] == "l":
            break
    await hold(backend)
    await sdk.runs.cancel(thread_id, run_id, wait=True)
    state = await sdk.threads.get_state(thread_id)
    assert [message["type"] for message in state["values"]["messages"]] == ["human", "ai"]
    answer = state["values"]["messages"][-1]
    assert answer["response_metadata"]["finish_reason"] == "cancelled"
    backend.release()


async def test_a_client_that_goes_away_ends_a_run_that_is_to_end_with_it(
    sdk, thread_id, begin, engine, backend
):
    run_id, stream = await begin(on_disconnect="cancel")
    await stream.aclose()
    await until_idle(engine)
    assert (await settled(sdk, thread_id, run_id))["status"] == "interrupted"
    backend.release()


async def test_a_run_goes_on_without_its_client_by_default(sdk, thread_id, begin, engine, backend):
    run_id, stream = await begin()
    await stream.aclose()
    backend.release()
    assert (await settled(sdk, thread_id, run_id))["status"] == "success"


async def test_an_answer_that_nobody_reads_any_more_makes_way_for_the_next_question(
    sdk, thread_id, begin, say, backend, server
):
    run_id, stream = await begin()
    await stream.aclose()
    run = server.state.agent._agent.runs.known(thread_id, run_id)
    while not run.abandoned:
        await asyncio.sleep(0.01)
    backend.release()
    state = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    assert state["messages"][-1]["content"] == "Hello there!"
    assert await status_of(sdk, thread_id, run_id) == "interrupted"


async def test_a_run_waits_for_one_that_somebody_reads(sdk, thread_id, begin, say, backend):
    first, _stream = await begin()
    second = await sdk.runs.create(thread_id, "agent", input=say("hello"))
    assert second["status"] == "pending"
    assert second["multitask_strategy"] == "enqueue"
    assert await status_of(sdk, thread_id, second["run_id"]) == "pending"
    backend.release()
    await sdk.runs.join(thread_id, second["run_id"])
    assert await status_of(sdk, thread_id, first) == "success"
    messages = (await sdk.threads.get(thread_id))["values"]["messages"]
    assert [each["type"] for each in messages] == ["human", "ai", "human", "ai"]
    assert messages[-1]["content"] == "Hello there!"


async def test_runs_of_a_thread_keep_their_order_also_when_one_between_is_cancelled(
    sdk, thread_id, begin, say, backend
):
    first, _stream = await begin()
    second = await sdk.runs.create(thread_id, "agent", input=say("encore"))
    third = await sdk.runs.create(thread_id, "agent", input=say("hello"))
    await sdk.runs.cancel(thread_id, second["run_id"], wait=True)
    assert await status_of(sdk, thread_id, third["run_id"]) == "pending"
    assert await status_of(sdk, thread_id, first) == "running"
    assert (await sdk.threads.get(thread_id))["status"] == "busy"
    backend.release()
    await sdk.runs.join(thread_id, third["run_id"])
    messages = (await sdk.threads.get(thread_id))["values"]["messages"]
    assert [each["content"] for each in messages if each["type"] == "human"] == ["long", "hello"]


async def test_a_run_can_refuse_to_wait(sdk, thread_id, begin, say, backend):
    await begin()
    with pytest.raises(ConflictError):
        await sdk.runs.create(thread_id, "agent", input=say("hello"), multitask_strategy="reject")
    assert len(await sdk.runs.list(thread_id)) == 1
    backend.release()


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_a_run_can_take_the_others_place(sdk, thread_id, begin, say, backend, strategy):
    _first, _stream = await begin()
    second = await sdk.runs.create(
        thread_id, "agent", input=say("hello"), multitask_strategy=strategy
    )
    backend.release()
    state = await sdk.runs.join(thread_id, second["run_id"])
    said = [message["content"] for message in state["messages"] if message["type"] == "human"]
    assert said == (["long", "hello"] if strategy == "interrupt" else ["hello"])
    assert state["messages"][-1]["content"] == "Hello there!"


async def test_a_thread_takes_only_so_many_runs(server, sdk, thread_id, begin, say, backend):
    await begin()
    body = {"assistant_id": "agent", "input": say("hello"), "multitask_strategy": "enqueue"}
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent") as client:
        replies = [await client.post(f"/threads/{thread_id}/runs", json=body) for _ in range(16)]
    assert [reply.status_code for reply in replies] == [200] * 15 + [503]
    assert int(replies[-1].headers["retry-after"]) >= 1
    await sdk.runs.cancel_many(thread_id=thread_id, status="pending")
    while len(await sdk.runs.list(thread_id, limit=20, status="interrupted")) != 15:
        await asyncio.sleep(0.01)
    backend.release()


async def test_runs_are_cancelled_by_their_ids(sdk, thread_id, begin, say, backend):
    first, _stream = await begin()
    await sdk.runs.cancel_many(thread_id=thread_id, run_ids=[first], action="interrupt")
    assert (await settled(sdk, thread_id, first))["status"] == "interrupted"
    backend.release()


async def test_deleting_a_busy_thread_ends_its_runs(sdk, thread_id, begin, engine, backend):
    await begin()
    await sdk.threads.delete(thread_id)
    await until_idle(engine)
    with pytest.raises(NotFoundError):
        await sdk.threads.get(thread_id)
    backend.release()


async def test_waiting_can_end_with_its_client_too(server, sdk, thread_id, say, engine, backend):
    backend.hold()
    body = {"assistant_id": "agent", "input": say("long"), "on_disconnect": "cancel"}
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent") as client:
        waiting = asyncio.create_task(client.post(f"/threads/{thread_id}/runs/wait", json=body))
        assert await asyncio.to_thread(backend.wait_until_held)
        waiting.cancel()
        await asyncio.wait({waiting})
    await until_idle(engine)
    [run] = await sdk.runs.list(thread_id)
    assert (await settled(sdk, thread_id, run["run_id"]))["status"] == "interrupted"
    backend.release()
