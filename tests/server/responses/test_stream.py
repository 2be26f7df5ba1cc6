"""The events of a response, and what they come to."""

import json
import random
import socket
from typing import get_args
from urllib.parse import urlsplit

import pytest
from openai.types.responses import ResponseStreamEvent

from qwenkit.backends.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"
PIECES = (
    "word",
    " ",
    "\n",
    "\n\n",
    "日本語",
    "\u2028",
    "👩🏽‍🚀",
    "<",
    "</think",
    "<tool_call",
    '"',
    "\\",
    "é",
)


def kinds(events):
    """The kinds of events, one for a run of the same."""
    names = [event["type"].removeprefix("response.") for event in events]
    pairs = zip(names, [None, *names], strict=False)
    return [name for name, before in pairs if name != before]


async def test_a_stream_tells_every_event_in_its_order(client, stream):
    events = await stream(client, "hello")
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == []


async def test_a_call_is_told_piece_by_piece(client, stream, weather):
    events = await stream(client, "weather", tools=[weather])
    assert kinds(events)[-5:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    added = [event["item"] for event in events if event["type"].endswith("item.added")][-1]
    assert (added["name"], added["arguments"], added["status"]) == ("weather", "", "in_progress")


def random_answer(rng):
    def some(n):
        return "".join(rng.choice(PIECES) for _ in range(rng.randrange(n)))

    def call(city):
        body = json.dumps({"name": "weather", "arguments": {"city": city}}, ensure_ascii=False)
        return f"<tool_call>\n{body}\n</tool_call>"

    calls = "\n".join(call(some(6)) for _ in range(rng.randrange(3)))
    thinking = f"\n{some(20)}\n" if rng.random() < 0.7 else "\n\n"
    return f"<think>{thinking}</think>\n\n{some(30)}{calls}"


EVENTS = {
    get_args(each.model_fields["type"].annotation)[0]: each
    for each in get_args(get_args(ResponseStreamEvent)[0])  # it is an annotated union
}
"""OpenAI's own types of events."""


def random_body(rng, weather):
    body = {"max_output_tokens": rng.choice([None, 7, 40, 100])}
    if rng.random() < 0.7:
        body["tools"] = [weather]
    if rng.random() < 0.5:
        body["reasoning"] = {"summary": "auto"}
    if rng.random() < 0.3:
        body["include"] = ["message.output_text.logprobs"]
    return body


async def test_the_deltas_come_to_the_response_and_to_what_is_kept(
    make_app, models, run, stream, respond, together, weather
):
    rng = random.Random(0)
    answers = {f"seed {seed}": random_answer(rng) for seed in range(12)}
    models.makers = {None: lambda: ScriptedBackend({"": "", **answers}, n_slots=4, n_ctx=8192)}
    async with run(make_app(models=models)) as client:
        for given in answers:
            body = random_body(rng, weather)
            events = await stream(client, given, **body)
            final = events[-1]["response"]
            kept = (await client.get(f"{PATH}/{final['id']}")).json()
            whole = await respond(client, given, **body)
            for event in events:
                EVENTS[event["type"]].model_validate(event)
            assert together(events) == final["output"]
            assert kept == final
            assert events[-1]["type"] == f"response.{final['status']}"
            assert without_ids(whole["output"]) == without_ids(final["output"])
            assert whole["status"] == final["status"]


def without_ids(output):
    return [
        {key: value for key, value in item.items() if key not in ("id", "call_id")}
        for item in output
    ]


async def test_an_error_in_mid_answer_is_the_last_event_and_is_kept(client, stream, backend):
    backend.failing_tokens = {7}
    events = await stream(client, "poison")
    failed = events[-1]
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["error"]["message"]
    assert failed["response"]["output"][-1]["status"] == "incomplete"
    kept = await client.get(f"{PATH}/{failed['response']['id']}")
    assert kept.json() == failed["response"]


async def test_an_error_in_mid_answer_without_streaming_is_an_http_error(client, backend):
    backend.failing_tokens = {7}
    reply = await client.post(PATH, json={"input": "poison"})
    assert reply.status_code == 500


def send(url, body):
    """A connection that has sent a request and reads nothing yet."""
    parts, content = urlsplit(url), json.dumps(body).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("streamed", [False, True])
def test_a_slot_is_free_when_the_client_has_left(make_app, listening, backend, until, streamed):
    app = make_app()
    with listening(app) as url:
        engine = app.state.serving.model.engine
        backend.hold()
        try:
            connection = send(url, {"input": "long", "stream": streamed})
            assert backend.wait_until_held()
            assert engine.snapshot().n_running == 1
            connection.close()
            until(lambda: engine.snapshot().n_running == 0)
        finally:
            backend.release()
