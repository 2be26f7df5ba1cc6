"""A LangChain chat model over our own stream."""

import asyncio
import json

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from qwenkit.agent.answers import LocalAnswers, RemoteAnswers, request_body
from qwenkit.agent.chat_model import QwenChat
from qwenkit.chat.completion import NamedTool
from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import InvalidRequest, UnknownModel

pytestmark = pytest.mark.anyio


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


@pytest.fixture
def chat(model):
    return QwenChat(answers=LocalAnswers(model))


async def test_reasoning_stands_beside_the_text(chat):
    message = await chat.ainvoke("hello")
    assert isinstance(message, AIMessage)
    assert message.content == "Hello there!"
    assert message.additional_kwargs == {"reasoning_content": "A greeting."}
    assert message.content_blocks == [
        {"type": "reasoning", "reasoning": "A greeting."},
        {"type": "text", "text": "Hello there!"},
    ]
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.response_metadata["model_name"] == "scripted"
    assert message.response_metadata["timings"]["thinking_s"] > 0
    usage = message.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_token_details"]["reasoning"] > 0


async def test_a_stream_adds_up_to_the_whole_answer(chat):
    whole = None
    n_chunks = 0
    async for chunk in chat.astream("hello"):
        whole = chunk if whole is None else whole + chunk
        n_chunks += 1
    assert n_chunks > 10
    invoked = await chat.ainvoke("hello")
    assert whole.content == invoked.content
    assert whole.additional_kwargs == invoked.additional_kwargs
    assert whole.usage_metadata["output_tokens"] == invoked.usage_metadata["output_tokens"]
    assert whole.chunk_position == "last"


async def test_a_tool_call_comes_in_pieces_and_whole(chat):
    bound = chat.bind_tools([weather])
    pieces = [chunk async for chunk in bound.astream("weather")]
    assert sum(len(piece.tool_call_chunks) for piece in pieces) > 3
    message = await bound.ainvoke("weather")
    [call] = message.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    assert message.response_metadata["finish_reason"] == "tool_calls"


async def test_a_tool_can_be_demanded_or_forbidden(chat):
    named = await chat.bind_tools([weather], tool_choice="weather").ainvoke("hello")
    assert named.tool_calls[0]["name"] == "weather"
    none = await chat.bind_tools([weather], tool_choice="none").ainvoke("weather")
    assert not none.tool_calls


async def test_closing_the_stream_frees_the_slot(chat, model, backend):
    stream = chat.astream("long")
    async for chunk in stream:
        if chunk.content:
            break
    backend.hold()
    assert await asyncio.to_thread(backend.wait_until_held)
    assert model.engine.snapshot().n_running == 1
    await stream.aclose()
    async with asyncio.timeout(10):
        while model.engine.snapshot().n_running:
            await asyncio.sleep(0.005)
    backend.release()


async def test_choices_come_from_the_model_or_from_the_call(model):
    chat = QwenChat(answers=LocalAnswers(model), max_tokens=3, thinking=False)
    short = await chat.ainvoke("hello")
    assert short.usage_metadata["output_tokens"] == 3
    assert "reasoning_content" not in short.additional_kwargs
    longer = await chat.ainvoke("hello", max_tokens=5)
    assert longer.usage_metadata["output_tokens"] == 5
    await chat.ainvoke("hello", temperature=0, sampling={"top_k": 1})
    with pytest.raises(InvalidRequest):
        await chat.ainvoke("hello", temperature=-1)
    with pytest.raises(UnknownModel):
        await chat.ainvoke("hello", model="other")
    stopped = await chat.ainvoke("hello", stop=["lo"], max_tokens=50)
    assert stopped.content == "Hel"


def test_it_also_works_without_a_loop(chat):
    assert chat.invoke("hello").content == "Hello there!"
    assert "".join(chunk.content for chunk in chat.stream("hello")) == "Hello there!"


async def test_a_request_to_a_server_says_only_what_was_chosen(model):
    chat = QwenChat(
        answers=LocalAnswers(model), thinking=True, thinking_budget=9, sampling={"top_p": 0.5}
    )
    question = chat._question(
        [HumanMessage("x")], ["stop"], {"tools": [{"f": 1}], "parallel_tool_calls": False}
    )
    assert request_body(question, model="m") == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"f": 1}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "chat_template_kwargs": {"enable_thinking": True},
        "thinking_budget": 9,
        "top_p": 0.5,
        "stop": ["stop"],
    }
    assert request_body(chat._question([HumanMessage("x")], None, {"thinking": False}), model="m")[
        "chat_template_kwargs"
    ] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, "auto"),
        ("any", "required"),
        (True, "required"),
        ("none", "none"),
        ("f", NamedTool("f")),
        ({"type": "function", "function": {"name": "f"}}, NamedTool("f")),
    ],
)
async def test_a_tool_choice_is_understood_as_langchain_spells_it(chat, given, meant):
    assert chat._question([HumanMessage("x")], None, {"tool_choice": given}).tool_choice == meant


async def test_a_server_without_a_model_is_said_so():
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": []}))
    async with RemoteServer("http://localhost", transport=transport) as server:
        with pytest.raises(UnknownModel):
            await QwenChat(answers=RemoteAnswers(server)).ainvoke("hello")


async def test_a_server_that_serves_another_model_now_is_asked_for_that_one():
    served = iter(["old", "new"])
    asked = []

    def answer(request):
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [{"id": next(served)}]})
        asked.append(json.loads(request.content)["model"])
        done = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
        body = f"data: {json.dumps(done)}\n\ndata: [DONE]\n\n"
        return httpx.Response(200, text=body, headers={"Content-Type": "text/event-stream"})

    async with RemoteServer("http://localhost", transport=httpx.MockTransport(answer)) as server:
        chat = QwenChat(answers=RemoteAnswers(server))
        for name in ("old", "new"):
            assert (await chat.ainvoke("x")).response_metadata["model_name"] == name
    assert asked == ["old", "new"]
