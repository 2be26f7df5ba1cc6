"""The agent as a graph, for whoever builds one."""

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.types import Command

from qwenkit.agent import build_agent
from qwenkit.errors import InvalidSettings

pytestmark = pytest.mark.anyio
HERE = {"configurable": {"thread_id": "1"}}


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def fails() -> str:
    """Never works."""
    raise ZeroDivisionError("as always")


def told(state):
    return [(message.type, message.content) for message in state["messages"]]


async def ask(agent, text, config=HERE):
    return await agent.ainvoke({"messages": [("user", text)]}, config)


async def test_it_answers_and_remembers(model):
    agent = build_agent(model)
    await ask(agent, "hello")
    state = await ask(agent, "sum")
    assert told(state)[1] == ("ai", "Hello there!")
    assert told(state)[-2:] == [("tool", "391"), ("ai", "It is 391.")]


async def test_it_calls_functions_that_it_is_given_after_asking(model):
    agent = build_agent(model, tools=[weather])
    state = await ask(agent, "weather")
    [interrupt] = state["__interrupt__"]
    assert interrupt.value["action_requests"][0]["args"] == {"city": "Oslo"}
    state = await agent.ainvoke(Command(resume={"decisions": [{"type": "approve"}]}), HERE)
    assert told(state)[-2:] == [("tool", "rain in Oslo"), ("ai", "Take an umbrella.")]


@pytest.mark.parametrize("allowed", [["weather"], ["*"]])
async def test_allowed_functions_run_without_asking(model, allowed):
    state = await ask(build_agent(model, tools=[weather], allowed=allowed), "weather")
    assert told(state)[-1] == ("ai", "Take an umbrella.")


async def test_a_tool_that_fails_is_heard_of_by_the_model(model):
    agent = build_agent(model, tools=[fails], allowed=["fails"], max_steps=2)
    state = await ask(agent, "fails")
    [tool] = [message for message in state["messages"] if message.type == "tool"]
    assert tool.status == "error"
    assert "as always" in tool.content


async def test_the_last_step_can_call_nothing(model):
    state = await ask(build_agent(model, max_steps=1), "sum")
    assert not state["messages"][-1].tool_calls


async def test_the_built_in_tools_can_be_left_out(model, backend):
    await ask(build_agent(model, built_in=False, tools=[weather]), "hello")
    piece = backend.tokenizer.piece
    prompt = b"".join(piece(int(t)) for rows in backend.decodes for t in rows.tokens).decode()
    assert "weather" in prompt
    assert "calculator" not in prompt


async def test_any_chat_model_of_langchains_will_do():
    fake = GenericFakeChatModel(messages=iter([AIMessage("from elsewhere")]))
    agent = build_agent(fake, built_in=False)
    assert told(await ask(agent, "x", {**HERE}))[-1] == ("ai", "from elsewhere")


async def test_arguments_that_are_no_json_come_back_to_the_model():
    broken = {"name": "f", "args": "{", "id": "c", "error": None, "type": "invalid_tool_call"}
    answers = [AIMessage("", invalid_tool_calls=[broken]), AIMessage("sorry")]
    agent = build_agent(GenericFakeChatModel(messages=iter(answers)), built_in=False)
    state = await ask(agent, "x")
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][2].status == "error"


async def test_a_tool_that_there_is_not_is_an_error_not_a_question():
    call = {"name": "gone", "args": {}, "id": "c", "type": "tool_call"}
    answers = [AIMessage("", tool_calls=[call]), AIMessage("sorry")]
    agent = build_agent(GenericFakeChatModel(messages=iter(answers)), built_in=False)
    state = await ask(agent, "x")
    assert state["messages"][2].status == "error"
    assert "__interrupt__" not in state


def test_a_url_must_be_one():
    with pytest.raises(InvalidSettings):
        build_agent("nonsense")
