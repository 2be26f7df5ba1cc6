"""Runs: started, streamed, waited for, joined, listed, cancelled, deleted."""

import asyncio
from itertools import pairwise

import httpx
import pytest
from langgraph_sdk.errors import BadRequestError, NotFoundError

pytestmark = pytest.mark.anyio
FUNCTION = {"type": "function", "name": "f", "content": "what no model reads"}


@pytest.fixture
async def thread_id(sdk):
    return (await sdk.threads.create())["thread_id"]


async def collect(stream):
    return [part async for part in stream]


async def test_a_stream_begins_with_the_run_and_tells_every_state(sdk, thread_id, say):
    created = []
    parts = await collect(
        sdk.runs.stream(thread_id, "agent", input=say("hello"), on_run_created=created.append)
    )
    assert [part.event for part in parts] == ["metadata", "values", "values"]
    run_id = parts[0].data["run_id"]
    assert created == [{"run_id": run_id, "thread_id": thread_id}]
    assert [len(part.data["messages"]) for part in parts[1:]] == [1, 2]
    run = await sdk.runs.get(thread_id, run_id)
    assert run["status"] == "success"
    assert run["thread_id"] == thread_id


async def test_message_chunks_add_up_to_the_message_of_the_state(sdk, thread_id, say):
    parts = await collect(
        sdk.runs.stream(
            thread_id, "agent", input=say("sum"), stream_mode=["values", "messages-tuple"]
        )
    )
    final = parts[-1].data["messages"]
    told = [part.data[0] for part in parts if part.event == "messages"]
    for message in final[1:]:
        pieces = [each for each in told if each["id"] == message["id"]]
        assert "".join(piece["content"] for piece in pieces) == message["content"]
        if message["type"] == "tool":
            assert pieces == [message]
            continue
        reasoning = "".join(p["additional_kwargs"].get("reasoning_content", "") for p in pieces)
        assert reasoning == message["additional_kwargs"].get("reasoning_content", "")
        arguments = "".join(c["args"] or "" for p in pieces for c in p["tool_call_chunks"])
        assert bool(arguments) == bool(message["tool_calls"])
        assert pieces[-1]["chunk_position"] == "last"
        assert pieces[-1]["usage_metadata"] == message["usage_metadata"]
    assert [message["type"] for message in final] == ["human", "ai", "tool", "ai"]
    assert final[-1]["content"] == "It is 391."
    [about, *_] = [part.data[1] for part in parts if part.event == "messages"]
    assert about["langgraph_node"] == "model"
    assert about["langgraph_checkpoint_ns"].startswith("model:")


async def test_whole_messages_grow_in_the_older_mode(sdk, thread_id, say):
    parts = await collect(
        sdk.runs.stream(thread_id, "agent", input=say("hello"), stream_mode="messages")
    )
    names = [part.event for part in parts]
    assert names[:2] == ["metadata", "messages/metadata"]
    partial = [part.data[0]["content"] for part in parts if part.event == "messages/partial"]
    assert partial[-1] == "Hello there!"
    assert all(len(a) <= len(b) for a, b in pairwise(partial))
    assert parts[-1].event == "messages/complete"
    assert parts[-1].data[0]["content"] == "Hello there!"
    assert parts[-1].data[0]["type"] == "ai"


async def test_every_other_mode_tells_what_langgraph_tells(sdk, thread_id, say):
    modes = ["updates", "custom", "debug", "tasks", "checkpoints", "events"]
    parts = await collect(
        sdk.runs.stream(thread_id, "agent", input=say("hello"), stream_mode=modes)
    )
    by_name = {name: [p.data for p in parts if p.event == name] for name in ("metadata", *modes)}
    assert set(by_name["updates"][0]) == {"model"}
    assert {each["name"] for each in by_name["tasks"]} == {"model"}
    assert by_name["checkpoints"][-1]["checkpoint"]["thread_id"] == thread_id
    assert {each["type"] for each in by_name["debug"]} >= {"task", "task_result", "checkpoint"}
    assert {"on_chain_start", "on_chat_model_stream"} <= {e["event"] for e in by_name["events"]}
    assert by_name["custom"] == []
    assert not [part for part in parts if part.event.startswith(("values", "messages"))]


async def test_waiting_gives_the_last_state(sdk, thread_id, say):
    state = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    assert [message["content"] for message in state["messages"]] == ["hello", "Hello there!"]


async def test_a_run_can_be_started_and_joined_later(sdk, thread_id, say):
    run = await sdk.runs.create(thread_id, "agent", input=say("hello"), metadata={"a": 1})
    assert run["status"] in ("pending", "running")
    assert run["metadata"]["a"] == 1
    joined = await sdk.runs.join(thread_id, run["run_id"])
    assert joined["messages"][-1]["content"] == "Hello there!"
    assert await sdk.runs.join(thread_id, run["run_id"]) == joined
    assert [part async for part in sdk.runs.join_stream(thread_id, run["run_id"])] == []


async def test_runs_are_listed_newest_first(sdk, thread_id, say):
    for text in ("hello", "encore", "poison"):
        await sdk.runs.wait(thread_id, "agent", input=say(text), raise_error=False)
    runs = await sdk.runs.list(thread_id)
    assert [run["status"] for run in runs] == ["success"] * 3
    assert await sdk.runs.list(thread_id, limit=1, offset=1) == [runs[1]]
    assert await sdk.runs.list(thread_id, status="error") == []
    await sdk.runs.delete(thread_id, runs[0]["run_id"])
    assert await sdk.runs.list(thread_id) == runs[1:]
    with pytest.raises(NotFoundError):
        await sdk.runs.get(thread_id, runs[0]["run_id"])


async def test_a_run_without_a_thread_leaves_none_behind(sdk, say):
    parts = await collect(sdk.runs.stream(None, "agent", input=say("hello")))
    assert parts[-1].data["messages"][-1]["content"] == "Hello there!"
    state = await sdk.runs.wait(None, "agent", input=say("encore"))
    assert state["messages"][-1]["content"] == "Once more."
    run = await sdk.runs.create(None, "agent", input=say("hello"))
    while (await sdk.threads.search(ids=[run["thread_id"]])) != []:
        await asyncio.sleep(0.01)
    assert await sdk.threads.count() == 0


async def test_a_run_without_a_thread_can_keep_it(sdk, say):
    await sdk.runs.wait(None, "agent", input=say("hello"), on_completion="keep")
    [thread] = await sdk.threads.search()
    assert thread["values"]["messages"][-1]["content"] == "Hello there!"


async def test_several_runs_are_started_together(sdk, say):
    body = {"assistant_id": "agent", "on_completion": "keep"}
    runs = await sdk.runs.create_batch([{**body, "input": say("hello")} for _ in range(3)])
    assert len({run["run_id"] for run in runs}) == 3
    for run in runs:
        joined = await sdk.runs.join(run["thread_id"], run["run_id"])
        assert joined["messages"][-1]["content"] == "Hello there!"


async def test_a_thread_is_made_for_a_run_that_asks_for_it(sdk, say):
    with pytest.raises(NotFoundError):
        await sdk.runs.create("new", "agent", input=say("hello"))
    state = await sdk.runs.wait("new", "agent", input=say("hello"), if_not_exists="create")
    assert state["messages"][-1]["content"] == "Hello there!"


async def test_two_threads_run_at_once(sdk, say, backend):
    ids = [(await sdk.threads.create())["thread_id"] for _ in range(2)]
    backend.hold()
    runs = [await sdk.runs.create(each, "agent", input=say("hello")) for each in ids]
    for thread_id, run in zip(ids, runs, strict=True):
        while (await sdk.runs.get(thread_id, run["run_id"]))["status"] != "running":
            await asyncio.sleep(0.01)
        assert (await sdk.threads.get(thread_id))["status"] == "busy"
    backend.release()
    for thread_id, run in zip(ids, runs, strict=True):
        joined = await sdk.runs.join(thread_id, run["run_id"])
        assert joined["messages"][-1]["content"] == "Hello there!"


async def test_an_error_ends_the_stream_and_stays_with_the_thread(sdk, thread_id, say, backend):
    backend.failing_tokens = {ord("\x07")}
    parts = await collect(sdk.runs.stream(thread_id, "agent", input=say("poison")))
    assert [part.event for part in parts] == ["metadata", "values", "error"]
    assert parts[-1].data["error"] == "DecodeFailed"
    assert parts[-1].data["message"]
    thread = await sdk.threads.get(thread_id)
    assert thread["status"] == "error"
    assert thread["error"] == parts[-1].data
    [run] = await sdk.runs.list(thread_id)
    assert run["status"] == "error"
    with pytest.raises(Exception, match="DecodeFailed"):
        await sdk.runs.wait(thread_id, "agent", input=say("poison"))
    fine = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    assert fine["messages"][-1]["content"] == "Hello there!"
    assert (await sdk.threads.get(thread_id))["status"] == "idle"


async def test_stopping_before_a_step_leaves_the_thread_waiting(sdk, thread_id, say):
    await sdk.runs.wait(thread_id, "agent", input=say("sum"), interrupt_before=["tools"])
    thread = await sdk.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    assert (await sdk.threads.get_state(thread_id))["next"] == ["tools"]
    state = await sdk.runs.wait(thread_id, "agent")
    assert state["messages"][-1]["content"] == "It is 391."


async def test_a_turn_takes_no_more_steps_than_allowed(sdk, thread_id, say):
    state = await sdk.runs.wait(thread_id, "agent", input=say("sum"), context={"max_steps": 1})
    assert [message["type"] for message in state["messages"]] == ["human", "ai"]
    assert state["messages"][-1]["tool_calls"] == []
    with pytest.raises(Exception, match="GraphRecursionError"):
        await sdk.runs.wait(thread_id, "agent", input=say("sum"), config={"recursion_limit": 1})


async def test_a_command_writes_and_goes_where_it_says(sdk, thread_id, say):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    state = await sdk.runs.wait(
        thread_id, "agent", command={"update": say("encore"), "goto": "model"}
    )
    assert [message["content"] for message in state["messages"]][2:] == ["encore", "Once more."]
    state = await sdk.runs.wait(
        thread_id, "agent", command={"goto": {"node": "model", "input": say("edited")}}
    )
    assert state["messages"][-1]["content"] == "An edit."


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("webhook", {"webhook": "http://example.com"}),
        ("after_seconds", {"after_seconds": 5}),
        ("input", {"input": "hello"}),
        ("input", {"input": {}}),
        ("input", {"input": {"messages": None}}),
        ("input", {"input": {"messages": [{"role": "user", "content": "x", "name": 10**30}]}}),
        ("command.resume", {"command": {"resume": [-(10**30)]}}),
        ("values", {"command": {"update": {"page": 2**64}}}),
        ("input.messages", {"input": {"messages": [{"content": "x"}]}}),
        ("input.messages", {"input": {"messages": [FUNCTION]}}),
        ("command.goto", {"command": {"goto": "nowhere"}}),
        ("config.recursion_limit", {"config": {"recursion_limit": 0}}),
        ("config.configurable", {"config": {"configurable": []}}),
        ("config.configurable.top_p", {"config": {"configurable": {"top_p": 7}}}),
        ("config.configurable.tools", {"context": {"tools": "clock"}}),
        ("config.configurable.thinking", {"context": {"thinking": "yes"}}),
        ("config.configurable.max_steps", {"context": {"max_steps": 1000}}),
        ("stream_mode", {"stream_mode": "films"}),
        ("multitask_strategy", {"multitask_strategy": "pray"}),
    ],
)
async def test_a_run_that_can_not_be_is_refused_before_it_begins(
    server, sdk, thread_id, param, body
):
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent") as client:
        for path in (
            f"/threads/{thread_id}/runs/stream",
            f"/threads/{thread_id}/runs",
            "/runs/wait",
        ):
            reply = await client.post(path, json={"assistant_id": "agent", **body})
            assert reply.status_code == 400
            assert reply.json()["error"]["param"].startswith(param)
    assert await sdk.runs.list(thread_id) == []


async def test_what_is_not_there_is_not_found(sdk, thread_id, say):
    for missing in (
        sdk.runs.wait(thread_id, "nobody", input=say("x")),
        sdk.runs.get(thread_id, "none"),
        sdk.runs.join(thread_id, "none"),
        sdk.runs.cancel(thread_id, "none"),
        sdk.runs.delete(thread_id, "none"),
        collect(sdk.runs.join_stream(thread_id, "none")),
        collect(sdk.runs.stream("none", "agent", input=say("x"))),
    ):
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await missing
        assert caught.value.response.status_code == 404


async def test_fields_of_an_input_that_the_agent_does_not_know_are_left_out(sdk, thread_id, say):
    given = {**say("hello"), "context": {"page": 3}}
    state = await sdk.runs.wait(thread_id, "agent", input=given)
    assert set(state) == {"messages"}
    assert state["messages"][-1]["content"] == "Hello there!"


async def test_internal_keys_of_a_config_are_not_passed_on(sdk, thread_id, say):
    state = await sdk.runs.wait(
        thread_id,
        "agent",
        input=say("hello"),
        config={"configurable": {"__pregel_scratchpad": 1, "thread_id": "other", "user": "x"}},
    )
    assert state["messages"][-1]["content"] == "Hello there!"
    assert (await sdk.threads.get_state(thread_id))["values"] == state


async def test_a_batch_must_be_a_list_of_bodies(server):
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent") as client:
        for body in ({}, [{}], [{"assistant_id": "agent"}] * 65):
            assert (await client.post("/runs/batch", json=body)).status_code == 400
        text = await client.post(
            "/runs/batch", content=b"[]", headers={"Content-Type": "text/plain"}
        )
        assert text.status_code == 415


async def test_a_client_reads_bad_requests_as_such(sdk, thread_id):
    with pytest.raises(BadRequestError):
        await sdk.runs.create(thread_id, "agent", input={}, multitask_strategy="reject")
