"""A person is asked before tools run."""

import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def thread_id(sdk):
    return (await sdk.threads.create())["thread_id"]


@pytest.fixture
def resume(sdk, thread_id):
    async def resume(*decisions, **options):
        return await sdk.runs.wait(
            thread_id, "agent", command={"resume": {"decisions": list(decisions)}}, **options
        )

    return resume


async def test_a_tool_that_is_not_allowed_asks_first(sdk, thread_id, say, connections):
    parts = [
        part
        async for part in sdk.runs.stream(
            thread_id, "agent", input=say("delete"), stream_mode=["values", "updates"]
        )
    ]
    [interrupt] = parts[-1].data["__interrupt__"]
    assert interrupt["value"]["action_requests"][0]["name"] == "files__delete"
    assert interrupt["value"]["action_requests"][0]["args"] == {"path": "/etc/x"}
    assert "files" in interrupt["value"]["action_requests"][0]["description"]
    [review] = interrupt["value"]["review_configs"]
    assert review["action_name"] == "files__delete"
    assert {"approve", "edit", "reject"} <= set(review["allowed_decisions"])
    assert connections.calls == []
    thread = await sdk.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    assert list(thread["interrupts"].values()) == [[interrupt]]
    state = await sdk.threads.get_state(thread_id)
    assert state["next"] == ["tools"]
    assert state["interrupts"] == state["tasks"][0]["interrupts"] == [interrupt]
    [run] = await sdk.runs.list(thread_id)
    assert run["status"] == "success"


async def test_an_approved_call_runs_and_the_answer_goes_on(
    sdk, thread_id, say, resume, connections
):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    state = await resume({"type": "approve"})
    assert connections.calls == [("files__delete", {"path": "/etc/x"})]
    tool, answer = state["messages"][-2:]
    assert (tool["content"], tool["status"], tool["artifact"]) == (
        "deleted /etc/x",
        "success",
        {"ok": True},
    )
    assert answer["content"] == "It is gone."
    assert (await sdk.threads.get(thread_id))["status"] == "idle"


async def test_it_resumes_at_the_checkpoint_that_clients_send_along(
    sdk, thread_id, say, connections
):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    [head, *_] = await sdk.threads.get_history(thread_id)
    state = await sdk.runs.wait(
        thread_id,
        "agent",
        input={},
        command={"resume": {"decisions": [{"type": "approve"}]}},
        checkpoint={"checkpoint_id": head["checkpoint_id"], "checkpoint_ns": ""},
    )
    assert state["messages"][-1]["content"] == "It is gone."
    assert len(connections.calls) == 1


@pytest.mark.parametrize("kind", ["reject", "deny"])
async def test_a_denied_call_does_not_run_and_the_model_hears_why(
    sdk, thread_id, say, resume, connections, kind
):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    state = await resume({"type": kind, "message": "never touch /etc"})
    assert connections.calls == []
    tool, answer = state["messages"][-2:]
    assert tool["status"] == "error"
    assert tool["additional_kwargs"] == {"decision": "reject"}
    assert "never touch /etc" in tool["content"]
    assert answer["content"] == "Then not."


async def test_an_edited_call_runs_as_edited_and_the_thread_says_so(
    sdk, thread_id, say, resume, connections
):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    action = {"name": "files__delete", "args": {"path": "/tmp/y"}}
    state = await resume({"type": "edit", "edited_action": action})
    assert connections.calls == [("files__delete", {"path": "/tmp/y"})]
    called, tool = state["messages"][-3:-1]
    assert called["tool_calls"][0]["args"] == {"path": "/tmp/y"}
    before = called["additional_kwargs"]["edited_tool_calls"]
    assert before[0]["args"] == {"path": "/etc/x"}
    assert tool["tool_call_id"] == called["tool_calls"][0]["id"]


async def test_a_person_may_answer_in_the_tools_place(sdk, thread_id, say, resume, connections):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    state = await resume({"type": "respond", "message": "deleted by hand"})
    assert connections.calls == []
    assert state["messages"][-2]["status"] == "success"
    assert state["messages"][-1]["content"] == "It is gone."


async def test_several_calls_are_decided_together_each_on_its_own(
    sdk, thread_id, say, resume, connections
):
    state = await sdk.runs.wait(thread_id, "agent", input=say("delete both"))
    [interrupt] = state["__interrupt__"]
    assert [each["args"]["path"] for each in interrupt["value"]["action_requests"]] == ["/a", "/b"]
    state = await resume({"type": "reject"}, {"type": "approve"})
    assert connections.calls == [("files__delete", {"path": "/b"})]
    tools = [message for message in state["messages"] if message["type"] == "tool"]
    assert [tool["status"] for tool in tools] == ["error", "success"]


async def test_decisions_are_on_what_was_asked_whatever_is_allowed_since(
    sdk, thread_id, say, resume, connections
):
    await sdk.runs.wait(thread_id, "agent", input=say("delete both"))
    context = {"allowed_tools": ["files__delete"]}
    state = await resume({"type": "approve"}, {"type": "reject"}, context=context)
    assert connections.calls == [("files__delete", {"path": "/a"})]
    tools = [message for message in state["messages"] if message["type"] == "tool"]
    assert [tool["status"] for tool in tools] == ["success", "error"]


async def test_a_call_that_a_client_wrote_into_the_thread_is_asked_about(
    sdk, thread_id, say, connections
):
    call = {"name": "files__list", "args": {"path": "/"}, "id": "c", "type": "tool_call"}
    message = {"type": "ai", "content": "", "tool_calls": [call]}
    await sdk.threads.update_state(
        thread_id, {"messages": [*say("look")["messages"], message]}, as_node="model"
    )
    state = await sdk.runs.wait(thread_id, "agent")
    assert state["__interrupt__"][0]["value"]["action_requests"][0]["name"] == "files__list"
    assert connections.calls == []


async def test_a_tool_that_is_gone_when_it_is_approved_is_heard_of_by_the_model(
    sdk, thread_id, say, resume, connections
):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    connections.tools = tuple
    state = await resume({"type": "approve"}, context={"max_steps": 2})
    [tool] = [message for message in state["messages"] if message["type"] == "tool"]
    assert tool["status"] == "error"
    assert "there is no tool files__delete" in tool["content"]


@pytest.mark.parametrize(
    "answer",
    [
        "yes",
        {"decisions": []},
        {"decisions": [{"type": "approve"}, {"type": "approve"}]},
        {"decisions": [{"type": "maybe"}]},
        {"decisions": [{"type": "edit"}]},
        {"decisions": [{"type": "edit", "edited_action": {"name": "rm", "args": {}}}]},
        {"decisions": [{"type": "reject", "message": 5}]},
        {"decisions": ["approve"]},
    ],
)
async def test_an_answer_that_is_none_is_asked_again(
    sdk, thread_id, say, resume, connections, answer
):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    state = await sdk.runs.wait(thread_id, "agent", command={"resume": answer})
    [interrupt] = state["__interrupt__"]
    assert interrupt["value"]["error"]
    assert interrupt["value"]["action_requests"][0]["name"] == "files__delete"
    assert connections.calls == []
    state = await resume({"type": "approve"})
    assert state["messages"][-1]["content"] == "It is gone."
    assert len(connections.calls) == 1


async def test_tools_that_are_allowed_run_without_asking(sdk, thread_id, say, connections):
    state = await sdk.runs.wait(thread_id, "agent", input=say("look"))
    assert "__interrupt__" not in state
    assert connections.calls == [("files__list", {"path": "/a"})]


@pytest.mark.parametrize("allowed", ["files__delete", "*"])
async def test_the_operator_can_allow_tools(live, connected, say, connections, allowed):
    app = live(agent_allowed_tools=allowed)
    async with connected(app) as sdk:
        state = await sdk.runs.wait(None, "agent", input=say("delete"))
    assert state["messages"][-1]["content"] == "It is gone."
    assert len(connections.calls) == 1


async def test_whoever_starts_a_run_can_allow_tools_beforehand(sdk, thread_id, say, connections):
    context = {"allowed_tools": ["files__delete"]}
    state = await sdk.runs.wait(thread_id, "agent", input=say("delete"), context=context)
    assert state["messages"][-1]["content"] == "It is gone."


async def test_going_to_the_end_leaves_the_call_undone(sdk, thread_id, say, connections):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    parts = [
        part async for part in sdk.runs.stream(thread_id, "agent", command={"goto": "__end__"})
    ]
    assert [part.event for part in parts] == ["metadata", "values"]
    thread = await sdk.threads.get(thread_id)
    assert thread["status"] == "idle"
    assert thread["interrupts"] == {}
    assert connections.calls == []
    state = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    assert state["messages"][-1]["content"] == "Hello there!"


async def test_writing_on_instead_of_deciding_leaves_the_call_undone(
    sdk, thread_id, say, connections
):
    state = await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    call = state["messages"][-1]["tool_calls"][0]
    tool = {
        "type": "tool",
        "tool_call_id": call["id"],
        "id": "do-not-render-1",
        "content": "Successfully handled tool call.",
    }
    human = {"type": "human", "content": "hello"}
    state = await sdk.runs.wait(thread_id, "agent", input={"messages": [tool, human]})
    assert state["messages"][-1]["content"] == "Hello there!"
    assert connections.calls == []


async def test_only_the_tools_that_a_run_chose_can_be_called(sdk, thread_id, say, connections):
    context = {"tools": ["clock"], "max_steps": 2}
    state = await sdk.runs.wait(thread_id, "agent", input=say("look"), context=context)
    tools = [message for message in state["messages"] if message["type"] == "tool"]
    assert connections.calls == []
    assert {tool["name"] for tool in tools} == {"clock"}
