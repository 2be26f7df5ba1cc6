"""OpenAI's own client and LangChain's, unchanged."""

import json

import httpx
import openai
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "hello": "<think>\nA greeting.\n</think>\n\nHello there!",
    "count": "<think>\n\n</think>\n\none two three four five",
    "wide": "<think>\n\n</think>\n\n日本語 \u2028 ok",
    "json": '<think>\n\n</think>\n\n{"name": "Ada", "age": 36}',
    "weather": (
        "<think>\nA tool knows.\n</think>\n\nLet me see.\n"
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    ),
}


def load(spec, *, name, progress, observer):
    backend = ScriptedBackend(ANSWERS, n_slots=4, n_ctx=8192)
    template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
    return ChatModel(name or "scripted", Engine(backend, observer=observer).start(), template)


@pytest.fixture(scope="module")
def url(tmp_path_factory, listening):
    """One server for all tests, which leave nothing behind that another one sees."""
    folder = tmp_path_factory.mktemp("served")
    settings = Settings(_env_file=None, qwenkit_home=folder / "home", log_dir=folder / "logs")
    with listening(create_app(settings, load=load, fits=lambda spec, progress: True)) as url:
        yield url


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client.responses


class Person(BaseModel):
    name: str
    age: int


def test_a_response_is_read_gone_on_from_listed_and_deleted(client):
    first = client.create(model="scripted", input="hello", metadata={"topic": "greeting"})
    assert first.output_text == "Hello there!"
    assert first.output[0].content[0].text == "A greeting."
    assert first.usage.output_tokens_details.reasoning_tokens > 0
    assert first.metadata == {"topic": "greeting"}
    second = client.create(model="scripted", input="count", previous_response_id=first.id)
    assert second.output_text == "one two three four five"
    assert client.retrieve(second.id) == second
    assert [item.content[0].text for item in client.input_items.list(second.id)] == ["count"]
    client.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.retrieve(second.id)
    counted = client.input_tokens.count(model="scripted", input="hello")
    assert counted.input_tokens == first.usage.input_tokens


def test_the_stream_helper_puts_calls_and_texts_together(client, weather):
    strict = {**weather, "strict": True}
    strict["parameters"] = {**weather["parameters"], "additionalProperties": False}
    with client.stream(model="scripted", input="weather", tools=[strict]) as stream:
        snapshots = [
            event.snapshot for event in stream if event.type == "response.output_text.delta"
        ]
        final = stream.get_final_response()
    assert snapshots[-1] == "Let me see."
    assert final.output_text == "Let me see."
    assert final.output[-1].parsed_arguments == {"city": "Oslo"}


def test_a_schema_is_parsed(client):
    parsed = client.parse(model="scripted", input="json", text_format=Person)
    assert parsed.output_parsed == Person(name="Ada", age=36)
    with client.stream(model="scripted", input="json", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="Ada", age=36)


def test_an_answer_is_sent_back_as_it_came(client, weather):
    given = [{"role": "user", "content": "weather"}]
    first = client.create(model="scripted", input=given, tools=[weather], store=False)
    call = first.output[-1]
    given += [item.to_dict() for item in first.output]
    given += [{"type": "function_call_output", "call_id": call.call_id, "output": "hello"}]
    second = client.create(model="scripted", input=given, tools=[weather], store=False)
    assert second.output_text == "Hello there!"


def test_a_response_in_the_background_is_followed_and_polled(client):
    started = client.create(model="scripted", input="hello", background=True)
    assert started.status == "queued"
    events = [*client.retrieve(started.id, stream=True)]
    assert events[-1].type == "response.completed"
    assert client.retrieve(started.id) == events[-1].response
    assert client.cancel(started.id).status == "completed"


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.create(model="scripted", input="x", previous_response_id="resp_none")
    assert caught.value.code == "previous_response_not_found"
    with pytest.raises(openai.NotFoundError):
        client.create(model="gpt-4o", input="x")


@pytest.mark.anyio
async def test_the_async_client_reads_answers_and_streams(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        whole = await client.responses.create(model="scripted", input="hello")
        async with client.responses.stream(model="scripted", input="hello") as stream:
            final = await stream.get_final_response()
        raw = await client.responses.create(model="scripted", input="hello", stream=True)
        numbers = [event.sequence_number async for event in raw]
    assert whole.output_text == final.output_text == "Hello there!"
    assert numbers == [*range(len(numbers))]


@pytest.fixture
def chat(url):
    return ChatOpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        model="scripted",
        max_retries=0,
        use_responses_api=True,
        output_version="responses/v1",
    )


@tool
def weather_of(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def test_langchain_answers_and_streams(chat):
    message = chat.invoke("hello")
    assert message.text == "Hello there!"
    assert message.usage_metadata["output_token_details"]["reasoning"] > 0
    assert message.response_metadata["id"].startswith("resp_")
    whole = None
    for piece in chat.stream("hello"):
        whole = piece if whole is None else whole + piece
    assert whole.text == "Hello there!"
    assert whole.usage_metadata["total_tokens"] == message.usage_metadata["total_tokens"]


def test_langchain_shows_the_thinking_that_it_asks_for(chat):
    shown = chat.bind(reasoning={"summary": "auto"})
    whole = None
    for piece in shown.stream("hello"):
        whole = piece if whole is None else whole + piece
    blocks = [block for block in whole.content_blocks if block["type"] == "reasoning"]
    assert "".join(block.get("reasoning", "") for block in blocks) == "A greeting."


def test_langchain_calls_tools_and_goes_on(chat):
    bound = chat.bind_tools([weather_of.model_copy(update={"name": "weather"})])
    whole = None
    for piece in bound.stream("weather"):
        whole = piece if whole is None else whole + piece
    (call,) = whole.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    answer = {"role": "tool", "tool_call_id": call["id"], "content": "hello"}
    again = bound.invoke([{"role": "user", "content": "weather"}, whole, answer])
    assert again.text == "Hello there!"
    later = chat.bind(previous_response_id=again.response_metadata["id"]).invoke("count")
    assert later.text == "one two three four five"


def test_langchain_gives_structured_output(chat):
    assert chat.with_structured_output(Person).invoke("json") == Person(name="Ada", age=36)


def test_an_event_names_its_kind_and_is_one_line_of_json(url):
    body = {"input": "wide", "stream": True}
    text = httpx.post(f"{url}/v1/responses", json=body).text
    for block in text.strip().split("\n\n"):
        name, data = block.splitlines()
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
