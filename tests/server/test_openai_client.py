"""The official client, unchanged."""

import json

import openai
import pytest
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").owned_by == "qwenkit"


def test_an_answer_is_read(client):
    answer = client.chat.completions.create(model="scripted", messages=HELLO)
    assert answer.choices[0].message.content == "Hello there!"
    assert answer.choices[0].message.reasoning_content.strip() == "A greeting."
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0


def test_a_stream_is_read(client):
    stream = client.chat.completions.create(
        model="scripted", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text == "Hello there!"
    assert chunks[-1].usage.total_tokens > 0


def test_the_stream_helper_puts_the_answer_together(client, weather_tool):
    with client.chat.completions.stream(
        model="scripted",
        messages=[{"role": "user", "content": "weather"}],
        tools=[weather_tool],
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert "tool_calls.function.arguments.delta" in kinds


def test_tools_are_called_and_answered(client, weather_tool):
    messages = [{"role": "user", "content": "weather"}]
    answer = client.chat.completions.create(
        model="scripted", messages=messages, tools=[weather_tool]
    )
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "hello"}]
    again = client.chat.completions.create(
        model="scripted", messages=messages, tools=[weather_tool]
    )
    assert again.choices[0].message.content == "Hello there!"


class Person(BaseModel):
    name: str
    age: int


def test_a_schema_is_parsed(client):
    answer = client.chat.completions.parse(
        model="scripted",
        messages=[{"role": "user", "content": "json"}],
        response_format=Person,
    )
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)


def test_log_probabilities_and_choices_are_read(client):
    answer = client.chat.completions.create(
        model="scripted", messages=HELLO, logprobs=True, top_logprobs=3, n=2
    )
    assert len(answer.choices) == 2
    first = answer.choices[0].logprobs.content[0]
    assert first.token == "H"
    assert first.logprob <= 0
    assert first.top_logprobs[0].token == "H"


def test_a_completion_is_read(client):
    answer = client.completions.create(model="scripted", prompt="Once upon", logprobs=1)
    assert answer.choices[0].text == " a time there wa"
    assert answer.choices[0].logprobs.tokens[0] == " "
    stream = client.completions.create(model="scripted", prompt="Once upon", stream=True)
    assert "".join(c.text for chunk in stream for c in chunk.choices) == " a time there wa"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError),
        ({"temperature": -1}, openai.BadRequestError),
        ({"messages": []}, openai.BadRequestError),
    ],
)
def test_errors_become_the_clients_own(client, body, error):
    with pytest.raises(error) as caught:
        client.chat.completions.create(**{"model": "scripted", "messages": HELLO, **body})
    assert caught.value.param


def test_an_error_in_mid_stream_is_raised(client, backend):
    backend.failing_tokens = {7}
    stream = client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "poison"}], stream=True
    )
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.type == "server_error"


def test_a_wrong_key_is_the_clients_own_error(make_app, listening):
    with (
        listening(make_app(api_keys="right")) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client,
    ):
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        assert client.with_options(api_key="right").models.list().data


@pytest.mark.anyio
async def test_the_async_client_reads_answers_and_streams(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = await client.chat.completions.create(model="scripted", messages=HELLO)
        assert answer.choices[0].message.content == "Hello there!"
        stream = await client.chat.completions.create(model="scripted", messages=HELLO, stream=True)
        text = ""
        async for chunk in stream:
            text += "".join(c.delta.content or "" for c in chunk.choices)
        assert text == "Hello there!"


@pytest.mark.anyio
async def test_the_async_client_may_break_off_a_stream(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        long = [{"role": "user", "content": "long"}]
        stream = await client.chat.completions.create(model="scripted", messages=long, stream=True)
        async with stream:
            async for _ in stream:
                break
        answer = await client.chat.completions.create(model="scripted", messages=HELLO)
    assert answer.choices[0].message.content == "Hello there!"
