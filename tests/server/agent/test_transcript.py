"""What Agent Chat UI was recorded to send, and what it needs of the answers."""

import asyncio
import json

import httpx
import pytest

pytestmark = pytest.mark.anyio
MODES = ["values", "messages-tuple", "custom"]


@pytest.fixture
async def ui(server):
    async with httpx.AsyncClient(base_url=f"{server.state.url}/agent", timeout=30) as client:
        yield client


def read(text):
    """Events with their ids; comments are left out."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line[:1] not in ("", ":")
        )
        if fields:
            events.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
    return events


async def send(ui, thread_id, body):
    whole = {
        "stream_mode": MODES,
        "stream_subgraphs": True,
        "stream_resumable": True,
        "assistant_id": "agent",
        "on_disconnect": "continue",
        **body,
    }
    reply = await ui.post(f"/threads/{thread_id}/runs/stream", json=whole)
    assert reply.status_code == 200
    return read(reply.text)


def human(text, message_id="m1"):
    return {"id": message_id, "type": "human", "content": [{"type": "text", "text": text}]}


async def history(ui, thread_id):
    return (await ui.post(f"/threads/{thread_id}/history", json={"limit": 10})).json()


async def new_thread(ui):
    return (await ui.post("/threads", json={"metadata": {}})).json()["thread_id"]


async def test_opening_the_page_asks_for_info_and_threads(ui):
    assert (await ui.get("/info")).status_code == 200
    body = {"metadata": {"graph_id": "agent"}, "limit": 100, "offset": 0}
    reply = await ui.post("/threads/search", json=body)
    assert reply.json() == []
    assert reply.headers["x-pagination-total"] == "0"


async def test_a_first_message_is_answered_in_the_recorded_order(ui):
    reply = await ui.post("/threads", json={"metadata": {}})
    thread = reply.json()
    assert thread["status"] == "idle"
    assert thread["values"] is None
    events = await send(ui, thread["thread_id"], {"input": {"messages": [human("hello")]}})
    names = [name for name, _, _ in events]
    assert names[:2] == ["metadata", "values"]
    assert names[-1] == "values"
    assert set(names[2:-1]) == {"messages"}
    assert all(event_id for _, _, event_id in events)
    assert events[0][1]["attempt"] == 1
    first = events[1][1]["messages"]
    assert first == [
        {
            "content": [{"type": "text", "text": "hello"}],
            "additional_kwargs": {},
            "response_metadata": {},
            "type": "human",
            "name": None,
            "id": "m1",
        }
    ]
    chunk, about = events[2][1]
    assert set(chunk) == {
        "content",
        "additional_kwargs",
        "response_metadata",
        "type",
        "name",
        "id",
        "tool_calls",
        "invalid_tool_calls",
        "usage_metadata",
        "tool_call_chunks",
        "chunk_position",
    }
    assert chunk["type"] == "AIMessageChunk"
    assert about["langgraph_node"] == "model"
    answer = events[-1][1]["messages"][-1]
    assert answer["type"] == "ai"
    assert answer["id"] == chunk["id"]
    [listed] = (await ui.post("/threads/search", json={"metadata": {"graph_id": "agent"}})).json()
    assert listed["values"]["messages"][0]["content"] == [{"type": "text", "text": "hello"}]


async def test_later_messages_name_the_head_they_follow(ui):
    thread_id = await new_thread(ui)
    for number in range(4):
        states = await history(ui, thread_id)
        head = (
            {"checkpoint_id": states[0]["checkpoint_id"], "checkpoint_ns": ""} if states else None
        )
        body = {"input": {"messages": [human("hello", f"m{number}")]}, "checkpoint": head}
        events = await send(ui, thread_id, body)
        assert len(events[-1][1]["messages"]) == 2 * number + 2


async def test_a_tool_call_is_told_in_chunks_and_its_result_as_a_message(ui):
    thread_id = await new_thread(ui)
    events = await send(ui, thread_id, {"input": {"messages": [human("sum")]}})
    messages = [data[0] for name, data, _ in events if name == "messages"]
    opening = next(each for each in messages if each.get("tool_call_chunks"))
    assert opening["tool_call_chunks"][0]["name"] == "calculator"
    assert opening["tool_call_chunks"][0]["type"] == "tool_call_chunk"
    [result] = [each for each in messages if each["type"] == "tool"]
    assert result["content"] == "391"
    assert result["status"] == "success"
    assert result["tool_call_id"] == opening["tool_call_chunks"][0]["id"]


async def test_an_attachment_is_kept_and_the_model_is_told_of_it(ui, backend):
    thread_id = await new_thread(ui)
    picture = {
        "type": "image",
        "mimeType": "image/png",
        "data": "iVBORw0KGgo=",
        "metadata": {"name": "px.png"},
    }
    message = {**human("hello"), "content": [*human("hello")["content"], picture]}
    events = await send(ui, thread_id, {"input": {"messages": [message]}})
    messages = events[-1][1]["messages"]
    assert messages[0]["content"][1] == picture
    assert messages[1]["content"] == "Hello there!"
    tokenizer = backend.tokenizer
    seen = b"".join(
        tokenizer.piece(int(token)) for rows in backend.decodes for token in rows.tokens
    )
    assert b"px.png (image/png) left out" in seen
    assert b"iVBORw0KGgo" not in seen


async def test_approving_is_sent_as_recorded(ui, connections):
    thread_id = await new_thread(ui)
    events = await send(ui, thread_id, {"input": {"messages": [human("delete")]}})
    [interrupt] = events[-1][1]["__interrupt__"]
    assert set(interrupt) >= {"id", "value"}
    [head, *_] = await history(ui, thread_id)
    assert head["interrupts"] == [interrupt]
    events = await send(
        ui,
        thread_id,
        {
            "input": {},
            "command": {"resume": {"decisions": [{"type": "approve"}]}},
            "stream_resumable": False,
            "on_disconnect": "cancel",
            "checkpoint": {"checkpoint_id": head["checkpoint_id"], "checkpoint_ns": ""},
        },
    )
    assert all(event_id is None for _, _, event_id in events)
    assert events[-1][1]["messages"][-1]["content"] == "It is gone."
    assert len(connections.calls) == 1


async def test_stop_and_send_again_is_answered_at_once(server, ui, backend):
    thread_id = await new_thread(ui)
    body = {"input": {"messages": [human("long")]}, "assistant_id": "agent", "stream_mode": MODES}
    async with ui.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as reply:
        async for line in reply.aiter_lines():
            if '"content":"l"' in line:
                break
    [run] = server.state.agent._agent.runs.active(thread_id)
    while not (run.abandoned or run.done.is_set()):
        await asyncio.sleep(0.005)
    events = await send(ui, thread_id, {"input": {"messages": [human("hello", "m2")]}})
    assert events[-1][1]["messages"][-1]["content"] == "Hello there!"
