"""What a thread holds, and how clients find checkpoints to edit and regenerate from."""

import httpx
import pytest
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError

pytestmark = pytest.mark.anyio
NOWHERE = "1f000000-0000-6000-8000-000000000000"


@pytest.fixture
async def thread_id(sdk):
    return (await sdk.threads.create())["thread_id"]


def texts(state):
    return [message["content"] for message in state["values"].get("messages", [])]


def first_seen(history, message_id):
    """The oldest state that has a message, as clients look for it."""
    having = [
        state
        for state in history
        if any(each["id"] == message_id for each in state["values"].get("messages", []))
    ]
    return having[-1]


async def test_an_empty_thread_has_an_empty_state(sdk, thread_id):
    state = await sdk.threads.get_state(thread_id)
    assert state["values"] == {}
    assert state["next"] == []
    assert state["checkpoint"]["checkpoint_id"] is None
    assert await sdk.threads.get_history(thread_id) == []


async def test_a_turn_takes_three_checkpoints_with_true_parents(sdk, thread_id, say):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    history = await sdk.threads.get_history(thread_id)
    assert [each["metadata"]["source"] for each in history] == ["loop", "loop", "input"]
    assert [texts(each) for each in history] == [["hello", "Hello there!"], ["hello"], []]
    assert [each["next"] for each in history] == [[], ["model"], ["__start__"]]
    parents = [each["parent_checkpoint_id"] for each in history]
    assert parents == [history[1]["checkpoint_id"], history[2]["checkpoint_id"], None]
    for each in history:
        assert each["checkpoint"]["thread_id"] == thread_id
        assert each["checkpoint"]["checkpoint_ns"] == ""
        assert each["created_at"]


async def test_a_state_can_be_had_by_its_checkpoint(sdk, thread_id, say):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    newest, before, _ = await sdk.threads.get_history(thread_id)
    assert (await sdk.threads.get_state(thread_id))["checkpoint"] == newest["checkpoint"]
    by_id = await sdk.threads.get_state(thread_id, checkpoint_id=before["checkpoint_id"])
    by_place = await sdk.threads.get_state(thread_id, checkpoint=before["checkpoint"])
    assert texts(by_id) == texts(by_place) == ["hello"]
    only = await sdk.threads.get_state(thread_id, select=["values.messages", "next"])
    assert set(only) == {"values", "next"}
    with pytest.raises(NotFoundError):
        await sdk.threads.get_state(thread_id, checkpoint_id=NOWHERE)


async def test_history_is_kept_to_the_limit_that_was_chosen(sdk, thread_id, say):
    for _ in range(5):
        await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    assert len(await sdk.threads.get_history(thread_id, limit=4)) == 4
    everything = await sdk.threads.get_history(thread_id, limit=10)
    assert len(everything) == 15, "a limit that nobody chose does not hide older turns"
    older = await sdk.threads.get_history(thread_id, before=everything[12]["checkpoint"], limit=9)
    assert [each["checkpoint_id"] for each in older] == [
        each["checkpoint_id"] for each in everything[13:]
    ]
    inputs = await sdk.threads.get_history(thread_id, metadata={"source": "input"}, limit=99)
    assert len(inputs) == 5


@pytest.fixture
async def history(client):
    made = await client.post("/agent/threads", json={})
    return f"/agent/threads/{made.json()['thread_id']}/history"


@pytest.mark.parametrize("key", ["", ".", "a..b", "a.", "a b", "a'", 'a"', "$", "ä"])
async def test_metadata_that_can_not_be_searched_is_refused(client, history, key):
    reply = await client.post(history, json={"metadata": {key: "input"}})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "metadata")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
async def test_a_number_that_no_database_holds_is_refused(client, history, number):
    reply = await client.post(history, json={"metadata": {"step": number}})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "metadata.step")


async def test_history_before_nothing_is_refused(client, history):
    reply = await client.get(history, params={"before": ""})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "before")


async def test_an_old_message_is_edited_where_it_first_appears(sdk, thread_id, say):
    for text in ("hello", "encore", "hello", "encore", "hello"):
        state = await sdk.runs.wait(thread_id, "agent", input=say(text))
    old = state["messages"][2]
    history = await sdk.threads.get_history(thread_id, limit=10)
    parent = first_seen(history, old["id"])["parent_checkpoint"]
    edited = await sdk.runs.wait(thread_id, "agent", input=say("edited"), checkpoint=parent)
    assert [each["content"] for each in edited["messages"]] == [
        "hello",
        "Hello there!",
        "edited",
        "An edit.",
    ]
    heads = await sdk.threads.get_history(thread_id, limit=100)
    children = [each for each in heads if each["parent_checkpoint_id"] == parent["checkpoint_id"]]
    assert len(children) == 2, "both branches are there"


async def test_regenerating_goes_on_from_before_the_answer(sdk, thread_id, say):
    state = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    answer = state["messages"][-1]
    history = await sdk.threads.get_history(thread_id)
    parent = first_seen(history, answer["id"])["parent_checkpoint"]
    again = await sdk.runs.wait(thread_id, "agent", checkpoint=parent)
    assert [each["content"] for each in again["messages"]] == ["hello", "Hello there!"]
    assert again["messages"][0]["id"] == state["messages"][0]["id"]
    assert again["messages"][1]["id"] != answer["id"]
    after = await sdk.threads.get_history(thread_id)
    assert answer["id"] in [m["id"] for each in after for m in each["values"]["messages"]]


async def test_a_run_can_not_go_on_from_a_checkpoint_that_is_not_there(sdk, thread_id, say):
    before = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    for where, place in ((thread_id, NOWHERE), (None, NOWHERE), (thread_id, "nonsense")):
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await sdk.runs.wait(where, "agent", input=say("x"), checkpoint_id=place)
    assert (await sdk.threads.get_state(thread_id))["values"] == before
    assert await sdk.threads.count() == 1


async def test_a_run_whose_checkpoint_was_rolled_back_ends_with_an_error(
    sdk, thread_id, say, backend
):
    before = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    stream = sdk.runs.stream(thread_id, "agent", input=say("long"), stream_mode="messages-tuple")
    async for part in stream:
        if part.event == "messages" and part.data[0]["content"] == "l":
            break
    backend.hold()
    head = (await sdk.threads.get_history(thread_id, limit=1))[0]["checkpoint"]
    with pytest.raises(Exception, match="NotThere"):
        await sdk.runs.wait(
            thread_id, "agent", input=say("x"), checkpoint=head, multitask_strategy="rollback"
        )
    backend.release()
    assert (await sdk.threads.get_state(thread_id))["values"] == before


async def test_the_newest_branch_is_the_threads_state(sdk, thread_id, say):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    await sdk.runs.wait(thread_id, "agent", input=say("encore"))
    history = await sdk.threads.get_history(thread_id)
    first_head = history[3]
    assert texts(first_head) == ["hello", "Hello there!"]
    await sdk.runs.wait(
        thread_id, "agent", input=say("edited"), checkpoint_id=first_head["checkpoint_id"]
    )
    newest = await sdk.threads.get_state(thread_id)
    assert texts(newest) == ["hello", "Hello there!", "edited", "An edit."]
    assert texts(await sdk.threads.get(thread_id)) == texts(newest)


async def test_a_state_can_be_written_and_gone_on_from(sdk, thread_id, say):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    written = await sdk.threads.update_state(
        thread_id, {"messages": [{"role": "assistant", "content": "I say so."}]}, as_node="model"
    )
    state = await sdk.threads.get_state(thread_id)
    assert state["checkpoint"]["checkpoint_id"] == written["checkpoint"]["checkpoint_id"]
    assert state["metadata"]["source"] == "update"
    assert texts(state)[-1] == "I say so."
    message_id = state["values"]["messages"][0]["id"]
    await sdk.threads.update_state(
        thread_id, {"messages": [{"type": "remove", "id": message_id}]}, as_node="model"
    )
    assert texts(await sdk.threads.get_state(thread_id)) == ["Hello there!", "I say so."]


async def test_writing_at_an_older_checkpoint_makes_a_branch(sdk, thread_id, say):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    [_, before, _] = await sdk.threads.get_history(thread_id)
    await sdk.threads.update_state(
        thread_id,
        {"messages": [{"role": "assistant", "content": "Another."}]},
        as_node="model",
        checkpoint=before["checkpoint"],
    )
    assert texts(await sdk.threads.get_state(thread_id)) == ["hello", "Another."]


async def test_a_state_that_can_not_be_is_refused(sdk, thread_id, say):
    with pytest.raises(BadRequestError):
        await sdk.threads.update_state(thread_id, {"messages": [{"role": "user"}]})
    with pytest.raises(BadRequestError):
        await sdk.threads.update_state(thread_id, say("x"), as_node="nowhere")
    with pytest.raises(NotFoundError):
        await sdk.threads.update_state(thread_id, say("x"), checkpoint_id=NOWHERE)


async def test_a_busy_thread_can_not_be_written(sdk, thread_id, say, backend):
    backend.hold()
    run = await sdk.runs.create(thread_id, "agent", input=say("hello"))
    with pytest.raises(ConflictError):
        await sdk.threads.update_state(thread_id, say("x"), as_node="model")
    backend.release()
    await sdk.runs.join(thread_id, run["run_id"])
    await sdk.threads.update_state(thread_id, say("x"), as_node="model")
