"""Asking for responses, and putting a stream of events together as a client does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from qwenkit.feedback.reader import read_log

PATH = "/v1/responses"
TEXTS = {
    "response.output_text.delta": ("content", "text"),
    "response.reasoning_text.delta": ("content", "text"),
    "response.reasoning_summary_text.delta": ("summary", "text"),
}
ENDED = ("status", "output", "error", "tools")
"""What only the end of an item tells."""
STRINGS = {
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}


def parse(text: str) -> list[dict[str, Any]]:
    """A stream's events; the name of each must be its data's type."""
    events = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        name, data = lines
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def put_together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output that deltas alone come to; checks that events come in their order."""
    output: list[dict[str, Any]] = []
    done: set[int] = set()
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    for event in events[2:-1]:
        index = event["output_index"]
        assert index not in done, "nothing may follow the end of an item"
        if event["type"] == "response.output_item.added":
            assert index == len(output)
            output.append(json.loads(json.dumps(event["item"])))
            continue
        item = output[index]
        if event["type"] == "response.output_item.done":
            done.add(index)
            ended = {key: event["item"][key] for key in ENDED if key in event["item"]}
            item |= ended
            assert event["item"] == item
            continue
        assert event["item_id"] == item["id"]
        _add(item, event)
    assert done == {*range(len(output))}
    return output


def _add(item: dict[str, Any], event: dict[str, Any]) -> None:
    kind = event["type"]
    if kind == "response.content_part.added":
        assert event["content_index"] == len(item["content"])
        item["content"].append(dict(event["part"]))
    elif kind == "response.reasoning_summary_part.added":
        item["summary"].append(dict(event["part"]))
    elif kind in TEXTS:
        parts, field = TEXTS[kind]
        part = item[parts][event.get("content_index", event.get("summary_index"))]
        part[field] += event["delta"]
        part.get("logprobs", []).extend(event.get("logprobs", []))
    elif kind in STRINGS:
        item[STRINGS[kind]] += event["delta"]
    elif kind.endswith("_text.done"):
        parts = "summary" if "summary" in kind else "content"
        part = item[parts][event.get("content_index", event.get("summary_index"))]
        assert event["text"] == part["text"]
    elif kind.endswith("arguments.done"):
        assert event["arguments"] == item["arguments"]


@pytest.fixture
def respond() -> Callable[..., Any]:
    """Asks for a response, whole."""

    async def respond(client: Any, given: Any, **body: Any) -> dict[str, Any]:
        reply = await client.post(PATH, json={"input": given, **body})
        assert reply.status_code == 200, reply.text
        response: dict[str, Any] = reply.json()
        return response

    return respond


@pytest.fixture
def stream() -> Callable[..., Any]:
    """Asks for a response, as events."""

    async def stream(client: Any, given: Any, **body: Any) -> list[dict[str, Any]]:
        reply = await client.post(PATH, json={"input": given, "stream": True, **body})
        assert reply.status_code == 200, reply.text
        return parse(reply.text)

    return stream


@pytest.fixture
def answers(tmp_path: Any) -> Callable[[], list[Any]]:
    """The answers that the feedback log has."""

    def answers() -> list[Any]:
        records = read_log(tmp_path / "logs" / "feedback")
        return [each for each in records if each.kind == "interaction"]

    return answers


@pytest.fixture
def weather(weather_tool: dict[str, Any]) -> dict[str, Any]:
    """A function as the Responses API has it."""
    return {"type": "function", **weather_tool["function"]}


@pytest.fixture
def clock(clock_tool: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", **clock_tool["function"]}


@pytest.fixture
def together() -> Callable[..., list[dict[str, Any]]]:
    return put_together


@pytest.fixture
def parsed() -> Callable[[str], list[dict[str, Any]]]:
    return parse


def text_of(response: dict[str, Any]) -> str:
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


@pytest.fixture
def said() -> Callable[[dict[str, Any]], str]:
    """The text that a response comes to."""
    return text_of
