"""Threads: made, found, changed, copied, thrown away."""

import httpx
import pytest
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError

pytestmark = pytest.mark.anyio


async def test_a_new_thread_is_idle_and_empty(sdk):
    thread = await sdk.threads.create(metadata={"title": "One"})
    assert thread["status"] == "idle"
    assert thread["metadata"] == {"title": "One"}
    assert thread["values"] is None
    assert thread["interrupts"] == {}
    assert await sdk.threads.get(thread["thread_id"]) == thread


async def test_a_thread_id_can_be_chosen_once(sdk):
    thread = await sdk.threads.create(thread_id="mine", metadata={"a": 1})
    with pytest.raises(ConflictError):
        await sdk.threads.create(thread_id="mine")
    again = await sdk.threads.create(thread_id="mine", if_exists="do_nothing", metadata={"a": 2})
    assert again == thread


async def test_metadata_is_merged_and_null_removes(sdk):
    thread = await sdk.threads.create(metadata={"a": 1, "b": 2})
    changed = await sdk.threads.update(thread["thread_id"], metadata={"b": None, "c": 3})
    assert changed["metadata"] == {"a": 1, "c": 3}
    assert changed["updated_at"] > thread["updated_at"]
    nothing = await sdk.threads.update(thread["thread_id"], metadata={}, return_minimal=True)
    assert nothing is None


async def test_metadata_can_also_be_changed_at_the_state(server, sdk):
    thread_id = (await sdk.threads.create(metadata={"a": 1}))["thread_id"]
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent") as client:
        body = {"metadata": {"b": 2}}
        assert (await client.patch(f"/threads/{thread_id}/state", json=body)).status_code == 204
        assert (await client.patch("/threads/none/state", json=body)).status_code == 404
    assert (await sdk.threads.get(thread_id))["metadata"] == {"a": 1, "b": 2}


async def test_threads_are_found_by_what_they_hold(sdk, say):
    ids = []
    for text in ("hello", "encore"):
        thread = await sdk.threads.create(metadata={"text": text})
        ids.append(thread["thread_id"])
        await sdk.runs.wait(ids[-1], "agent", input=say(text))
    waiting = await sdk.threads.create()
    await sdk.runs.wait(waiting["thread_id"], "agent", input=say("delete"))

    def found(threads):
        return [each["thread_id"] for each in threads]

    assert found(await sdk.threads.search(metadata={"graph_id": "agent"})) == [
        waiting["thread_id"],
        ids[1],
        ids[0],
    ]
    assert found(await sdk.threads.search(metadata={"text": "encore"})) == [ids[1]]
    assert found(await sdk.threads.search(status="interrupted")) == [waiting["thread_id"]]
    assert found(await sdk.threads.search(ids=[ids[0]])) == [ids[0]]
    content = {"messages": [{"content": "hello", "type": "human"}]}
    assert found(await sdk.threads.search(values=content)) == [ids[0]]
    assert found(await sdk.threads.search(sort_by="created_at", sort_order="asc"))[0] == ids[0]
    assert await sdk.threads.count(status="idle") == 2
    assert await sdk.threads.count(metadata={"text": "hello"}) == 1
    assert await sdk.threads.count(values=content) == 1


async def test_a_page_tells_of_the_others_and_holds_what_was_selected(server, sdk, say):
    for _ in range(3):
        thread = await sdk.threads.create()
        await sdk.runs.wait(thread["thread_id"], "agent", input=say("hello"))
    async with httpx.AsyncClient(base_url=server.state.url) as client:
        reply = await client.post("/agent/threads/search", json={"limit": 2})
        assert len(reply.json()) == 2
        assert reply.headers["x-pagination-total"] == "3"
        assert reply.headers["x-pagination-next"] == "2"
        reply = await client.post("/agent/threads/search", json={"limit": 2, "offset": 2})
        assert len(reply.json()) == 1
        assert "x-pagination-next" not in reply.headers
    [first, *_] = await sdk.threads.search(
        select=["thread_id", "status"], extract={"last": "values.messages[-1].content", "no": "a.b"}
    )
    assert first == {
        "thread_id": thread["thread_id"],
        "status": "idle",
        "extracted": {"last": "Hello there!", "no": None},
    }


async def test_a_thread_can_begin_with_states(sdk):
    step = {
        "updates": [
            {"values": {"messages": [{"role": "user", "content": "hi"}]}, "as_node": "model"}
        ]
    }
    thread = await sdk.threads.create(supersteps=[step])
    assert thread["values"]["messages"][0]["content"] == "hi"
    with pytest.raises(BadRequestError):
        await sdk.threads.create(supersteps=[{"updates": [{"values": {}, "as_node": "nowhere"}]}])


async def test_a_copy_has_the_same_history_and_goes_its_own_way(sdk, say):
    thread = await sdk.threads.create(metadata={"a": 1})
    thread_id = thread["thread_id"]
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    copy = await sdk.threads.copy(thread_id)
    copy_id = copy["thread_id"]
    assert copy_id != thread_id
    assert copy["values"] == (await sdk.threads.get(thread_id))["values"]
    before = await sdk.threads.get_history(thread_id)
    after = await sdk.threads.get_history(copy_id)
    assert [each["checkpoint_id"] for each in after] == [each["checkpoint_id"] for each in before]
    assert [e["parent_checkpoint_id"] for e in after] == [e["parent_checkpoint_id"] for e in before]
    answer = await sdk.runs.wait(copy_id, "agent", input=say("encore"))
    assert len(answer["messages"]) == 4
    assert len((await sdk.threads.get_state(thread_id))["values"]["messages"]) == 2


async def test_a_copy_of_a_waiting_thread_waits_too(sdk, say):
    thread = await sdk.threads.create()
    await sdk.runs.wait(thread["thread_id"], "agent", input=say("delete"))
    copy = await sdk.threads.copy(thread["thread_id"])
    assert copy["status"] == "interrupted"
    answer = await sdk.runs.wait(
        copy["thread_id"], "agent", command={"resume": {"decisions": [{"type": "approve"}]}}
    )
    assert answer["messages"][-1]["content"] == "It is gone."


async def test_a_deleted_thread_is_gone_with_its_history_and_runs(sdk, say, server):
    thread_id = (await sdk.threads.create(thread_id="t"))["thread_id"]
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    await sdk.threads.delete(thread_id)
    for gone in (
        sdk.threads.get(thread_id),
        sdk.threads.get_state(thread_id),
        sdk.threads.get_history(thread_id),
        sdk.threads.update(thread_id, metadata={}),
        sdk.threads.delete(thread_id),
        sdk.runs.list(thread_id),
    ):
        with pytest.raises(NotFoundError):
            await gone
    await sdk.threads.create(thread_id="t")
    assert await sdk.threads.get_history("t") == []
    assert await sdk.runs.list("t") == []


async def test_pruning_keeps_the_newest_state_or_nothing(sdk, say):
    first = (await sdk.threads.create())["thread_id"]
    second = (await sdk.threads.create())["thread_id"]
    for thread_id in (first, second):
        await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    assert await sdk.threads.prune([first], strategy="keep_latest") == {"pruned_count": 1}
    history = await sdk.threads.get_history(first)
    assert [len(each["values"]["messages"]) for each in history] == [2]
    answer = await sdk.runs.wait(first, "agent", input=say("encore"))
    assert answer["messages"][-1]["content"] == "Once more."
    assert await sdk.threads.prune([second, "none"]) == {"pruned_count": 1}
    with pytest.raises(NotFoundError):
        await sdk.threads.get(second)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("threads", {"thread_id": ""}),
        ("threads", {"metadata": "x"}),
        ("threads", {"if_exists": "maybe"}),
        ("threads/search", {"limit": 0}),
        ("threads/search", {"status": "sleepy"}),
        ("threads/search", {"limit": 10_000}),
        ("threads/search", {"sort_by": "colour"}),
        ("threads/prune", {}),
    ],
)
async def test_a_body_that_can_not_be_is_refused(server, path, body):
    async with httpx.AsyncClient(base_url=server.state.url) as client:
        reply = await client.post(f"/agent/{path}", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"
