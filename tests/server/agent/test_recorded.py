"""The agent's answers and the runs of its tools are in the log, as clients see them."""

import httpx
import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.feedback.reader import read_log
from qwenkit.feedback.records import Interaction, ToolRun

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "logs" / "feedback"


@pytest.fixture
def answers(folder):
    return lambda: [each for each in read_log(folder) if isinstance(each, Interaction)]


@pytest.fixture
def tool_runs(folder):
    return lambda: [each for each in read_log(folder) if isinstance(each, ToolRun)]


@pytest.fixture
def settled(server):
    """Waits until everything that was submitted is in the log."""

    async def settled():
        await server.state.recorder.written(list)

    return settled


@pytest.fixture
async def thread_id(sdk):
    return (await sdk.threads.create())["thread_id"]


async def test_an_answer_is_known_by_its_messages_id(sdk, say, thread_id, answers):
    state = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    message = state["messages"][-1]
    (record,) = answers()
    assert record.id == message["id"]
    assert (record.source, record.thread_id, record.parent_id) == ("agent", thread_id, None)
    assert record.answer.content == message["content"] == "Hello there!"
    assert record.answer.reasoning_content == message["additional_kwargs"]["reasoning_content"]
    assert record.usage.completion == message["usage_metadata"]["output_tokens"]


async def test_a_streamed_answer_has_the_id_of_its_chunks(sdk, say, thread_id, answers):
    chunks = [
        part.data[0]
        async for part in sdk.runs.stream(
            thread_id, "agent", input=say("hello"), stream_mode="messages-tuple"
        )
        if part.event == "messages"
    ]
    (record,) = answers()
    assert {each["id"] for each in chunks} == {record.id}
    assert record.answer.content == "".join(each["content"] for each in chunks)


async def test_every_step_is_a_record_and_so_is_a_tools_run(
    sdk, say, thread_id, answers, tool_runs, settled
):
    state = await sdk.runs.wait(thread_id, "agent", input=say("sum"))
    _, asked, _, answer = state["messages"]
    await settled()
    assert [each.id for each in answers()] == [asked["id"], answer["id"]]
    assert answers()[0].finish_reason == "tool_calls"
    (ran,) = tool_runs()
    assert (ran.id, ran.answer_id) == (asked["tool_calls"][0]["id"], asked["id"])
    assert (ran.name, ran.result, ran.approved) == ("calculator", "391", None)
    assert ran.thread_id == thread_id


@pytest.mark.parametrize(
    ("decision", "approved", "arguments"),
    [
        ({"type": "approve"}, True, '{"path": "/etc/x"}'),
        ({"type": "reject"}, False, '{"path": "/etc/x"}'),
        (
            {"type": "edit", "edited_action": {"name": "files__delete", "args": {"path": "/b"}}},
            True,
            '{"path": "/b"}',
        ),
    ],
)
async def test_a_tools_run_says_what_a_person_decided(
    sdk, say, thread_id, tool_runs, settled, decision, approved, arguments
):
    await sdk.runs.wait(thread_id, "agent", input=say("delete"))
    assert tool_runs() == []
    await sdk.runs.wait(thread_id, "agent", command={"resume": {"decisions": [decision]}})
    await settled()
    (ran,) = tool_runs()
    assert (ran.approved, ran.arguments) == (approved, arguments)


async def regenerate(sdk, thread_id, text, given=None):
    """Run again from where the last message of a person's was."""
    history = await sdk.threads.get_history(thread_id)
    place = next(
        each
        for each in history
        if each["values"].get("messages") and each["values"]["messages"][-1]["content"] == text
    )
    return await sdk.runs.wait(thread_id, "agent", input=given, checkpoint=place["checkpoint"])


async def test_a_regenerated_answer_names_the_one_that_it_takes_the_place_of(
    sdk, say, thread_id, answers
):
    first = (await sdk.runs.wait(thread_id, "agent", input=say("hello")))["messages"][-1]
    second = (await regenerate(sdk, thread_id, "hello"))["messages"][-1]
    records = {each.id: each for each in answers()}
    assert records[second["id"]].parent_id == first["id"]
    assert records[first["id"]].prompt_hash == records[second["id"]].prompt_hash


async def test_an_older_answer_can_be_regenerated_too(sdk, say, thread_id, answers):
    first = (await sdk.runs.wait(thread_id, "agent", input=say("hello")))["messages"][-1]
    await sdk.runs.wait(thread_id, "agent", input=say("encore"))
    again = (await regenerate(sdk, thread_id, "hello"))["messages"][-1]
    records = {each.id: each for each in answers()}
    assert records[again["id"]].parent_id == first["id"]


async def test_the_same_question_sent_again_from_before_it_regenerates_its_answer(
    sdk, say, thread_id, answers
):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    first = (await sdk.runs.wait(thread_id, "agent", input=say("encore")))["messages"][-1]
    history = await sdk.threads.get_history(thread_id)
    before = next(each for each in history if len(each["values"].get("messages", ())) == 2)
    state = await sdk.runs.wait(
        thread_id, "agent", input=say("encore"), checkpoint=before["checkpoint"]
    )
    records = {each.id: each for each in answers()}
    assert records[state["messages"][-1]["id"]].parent_id == first["id"]


async def test_an_edited_question_regenerates_nothing(sdk, say, thread_id, answers):
    await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    await sdk.runs.wait(thread_id, "agent", input=say("encore"))
    history = await sdk.threads.get_history(thread_id)
    before = next(each for each in history if len(each["values"].get("messages", ())) == 2)
    state = await sdk.runs.wait(
        thread_id, "agent", input=say("edited"), checkpoint=before["checkpoint"]
    )
    records = {each.id: each for each in answers()}
    assert records[state["messages"][-1]["id"]].parent_id is None


async def test_only_the_first_step_of_a_run_regenerates(sdk, say, thread_id, answers):
    await sdk.runs.wait(thread_id, "agent", input=say("sum"))
    await regenerate(sdk, thread_id, "sum")
    parents = [each.parent_id for each in answers()]
    assert [parent is None for parent in parents] == [True, True, False, True]
    assert parents[2] == answers()[0].id


@pytest.mark.parametrize("place", ["config", "context"])
async def test_a_run_can_be_kept_out_of_the_log(
    sdk, say, thread_id, answers, tool_runs, settled, place
):
    chosen = {"store": False}
    given = {"config": {"configurable": chosen}} if place == "config" else {"context": chosen}
    state = await sdk.runs.wait(thread_id, "agent", input=say("sum"), **given)
    await settled()
    assert state["messages"][-1]["content"] == "It is 391."
    assert answers() == []
    assert tool_runs() == []


async def test_store_must_be_true_or_false(sdk, say, thread_id):
    config = {"configurable": {"store": "no"}}
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        await sdk.runs.wait(thread_id, "agent", input=say("hello"), config=config)


async def test_an_answer_that_is_cancelled_is_recorded_as_far_as_it_came(
    sdk, say, thread_id, answers, settled
):
    stream = sdk.runs.stream(thread_id, "agent", input=say("long"), stream_mode="messages-tuple")
    async for part in stream:
        if part.event == "messages":
            [run] = await sdk.runs.list(thread_id)
            await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
            break
    await stream.aclose()
    await settled()
    (record,) = answers()
    state = await sdk.threads.get_state(thread_id)
    kept = state["values"]["messages"][-1]
    assert record.finish_reason == "cancelled"
    assert record.id == kept["id"]
    assert record.answer.content.startswith(kept["content"])


async def test_a_record_names_the_request_and_who_asked(server, say, thread_id, answers):
    body = {"assistant_id": "agent", "input": say("hello"), "metadata": {"user": "ada"}}
    async with httpx.AsyncClient(base_url=server.state.url) as client:
        url = f"/agent/threads/{thread_id}/runs/wait"
        await client.post(url, json=body, headers={"X-Request-Id": "request-9"})
    (record,) = answers()
    assert (record.request_id, record.user) == ("request-9", "ada")


async def test_an_agents_answer_is_rated_by_its_messages_id(server, sdk, say, thread_id):
    state = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    answer_id = state["messages"][-1]["id"]
    async with httpx.AsyncClient(base_url=server.state.url) as client:
        said = {"answer_id": answer_id, "thumb": "up", "source": "ui"}
        assert (await client.post("/v1/feedback", json=said)).status_code == 201
        reply = await client.get("/v1/feedback/ratings", params={"thread_id": thread_id})
    (rating,) = reply.json()["data"]
    assert (rating["answer_id"], rating["source"]) == (answer_id, "ui")


@pytest.fixture
def far(models, listening, make_app, tmp_path):
    """Another server's URL, for an agent to ask; its log is in `far`."""
    backend = ScriptedBackend({"": "<think>\nHm.\n</think>\n\nFrom afar."}, n_slots=4, n_ctx=8192)
    models.makers = {None: lambda: backend}
    with listening(make_app(models=models, log_dir=tmp_path / "far")) as url:
        yield url


async def test_answers_of_another_server_are_recorded_as_well(far, live, connected, say, answers):
    async with connected(live(openai_api_base_url=far)) as sdk:
        thread_id = (await sdk.threads.create())["thread_id"]
        state = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
    (record,) = answers()
    assert record.id == state["messages"][-1]["id"]
    assert (record.answer.content, record.answer.reasoning_content) == ("From afar.", "Hm.")
    assert (record.model, record.template_hash, record.thread_id) == ("scripted", "", thread_id)
    assert record.usage.completion > 0


@pytest.mark.parametrize(("store", "n_kept"), [(None, 1), (False, 0)])
async def test_another_server_is_told_what_it_must_not_keep(
    far, live, connected, say, answers, tmp_path, store, n_kept
):
    config = {"configurable": {} if store is None else {"store": store}}
    async with connected(live(openai_api_base_url=far)) as sdk:
        thread_id = (await sdk.threads.create())["thread_id"]
        await sdk.runs.wait(thread_id, "agent", input=say("hello"), config=config)
    assert len(answers()) == n_kept
    assert len([*read_log(tmp_path / "far" / "feedback")]) == n_kept
