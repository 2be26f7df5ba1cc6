"""LangChain's ChatOpenAI, unchanged."""

import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


@pytest.fixture
def chat(url):
    return ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="scripted", max_retries=0)


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


class Person(BaseModel):
    """Someone."""

    name: str
    age: int


def test_it_invokes(chat):
    message = chat.invoke("hello")
    assert message.content == "Hello there!"
    assert message.usage_metadata["total_tokens"] > 0
    assert message.response_metadata["finish_reason"] == "stop"


def test_it_streams(chat):
    pieces = list(chat.stream("hello"))
    assert "".join(piece.content for piece in pieces) == "Hello there!"
    assert len(pieces) > 3


def test_it_binds_tools(chat):
    message = chat.bind_tools([weather]).invoke("weather")
    (call,) = message.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    assert weather.invoke(call).content == "rain in Oslo"


def test_it_streams_tool_calls(chat):
    whole = None
    for piece in chat.bind_tools([weather]).stream("weather"):
        whole = piece if whole is None else whole + piece
    (call,) = whole.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_it_gives_structured_output(chat, method):
    assert chat.with_structured_output(Person, method=method).invoke("json") == Person(
        name="Ada", age=36
    )


@pytest.mark.anyio
async def test_it_answers_many_at_once(chat):
    messages = await chat.abatch(["hello"] * 4)
    assert [message.content for message in messages] == ["Hello there!"] * 4
