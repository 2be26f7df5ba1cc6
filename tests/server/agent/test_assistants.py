"""Presets of what runs choose."""

import pytest
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError

pytestmark = pytest.mark.anyio
BUILT_IN = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"


async def test_the_graphs_own_assistant_has_the_id_that_clients_of_langgraph_know(sdk):
    for name in ("agent", BUILT_IN):
        assistant = await sdk.assistants.get(name)
        assert assistant["assistant_id"] == BUILT_IN
        assert assistant["graph_id"] == "agent"
    found = await sdk.assistants.search(graph_id="agent", response_format="object")
    assert [each["assistant_id"] for each in found["assistants"]] == [BUILT_IN]
    assert found["next"] is None


async def test_the_graph_has_two_steps_and_schemas(sdk):
    graph = await sdk.assistants.get_graph("agent")
    assert {node["id"] for node in graph["nodes"]} == {"__start__", "model", "tools", "__end__"}
    schemas = await sdk.assistants.get_schemas("agent")
    assert "messages" in schemas["input_schema"]["properties"]
    assert "model" in schemas["config_schema"]["properties"]
    assert await sdk.assistants.get_subgraphs("agent") == {}
    assert await sdk.assistants.get_subgraphs("agent", namespace="x", recurse=True) == {}


async def test_an_assistant_can_be_made_changed_and_deleted(sdk):
    made = await sdk.assistants.create(
        "agent", config={"configurable": {"temperature": 0}}, name="Strict", metadata={"a": 1}
    )
    assistant_id = made["assistant_id"]
    assert (made["version"], made["name"]) == (1, "Strict")
    changed = await sdk.assistants.update(assistant_id, name="Stricter", metadata={"b": 2})
    assert changed["version"] == 2
    assert changed["metadata"] == {"a": 1, "b": 2}
    assert changed["config"] == {"configurable": {"temperature": 0}}
    versions = await sdk.assistants.get_versions(assistant_id)
    assert [each["version"] for each in versions] == [2, 1]
    back = await sdk.assistants.set_latest(assistant_id, 1)
    assert back["name"] == (await sdk.assistants.get(assistant_id))["name"] == "Strict"
    await sdk.assistants.delete(assistant_id)
    with pytest.raises(NotFoundError):
        await sdk.assistants.get(assistant_id)


async def test_assistants_are_found_by_metadata_and_name_page_by_page(sdk):
    for number in range(3):
        await sdk.assistants.create("agent", name=f"Helper {number}", metadata={"odd": number % 2})
    assert await sdk.assistants.count() == 4
    assert await sdk.assistants.count(metadata={"odd": 0}) == 2
    page = await sdk.assistants.search(
        name="helper", limit=2, sort_by="name", sort_order="asc", response_format="object"
    )
    assert [each["name"] for each in page["assistants"]] == ["Helper 0", "Helper 1"]
    assert page["next"] == "2"
    rest = await sdk.assistants.search(
        name="helper", offset=2, sort_by="name", sort_order="asc", select=["name"]
    )
    assert rest == [{"name": "Helper 2"}]


async def test_the_built_in_assistant_stays_as_it_is(sdk):
    with pytest.raises(ConflictError):
        await sdk.assistants.update("agent", name="other")
    with pytest.raises(ConflictError):
        await sdk.assistants.delete(BUILT_IN)
    with pytest.raises(ConflictError):
        await sdk.assistants.create("agent", assistant_id=BUILT_IN)
    same = await sdk.assistants.create("agent", assistant_id=BUILT_IN, if_exists="do_nothing")
    assert same["name"] == "agent"


async def test_what_an_assistant_chooses_is_checked_when_it_is_made(sdk):
    with pytest.raises(BadRequestError) as caught:
        await sdk.assistants.create("agent", config={"configurable": {"temperature": -1}})
    assert caught.value.response.json()["error"]["param"] == "config.configurable.temperature"
    with pytest.raises(BadRequestError):
        await sdk.assistants.create("another graph")


async def test_an_assistants_choices_hold_for_its_runs_unless_a_run_says_otherwise(sdk, say):
    made = await sdk.assistants.create("agent", config={"configurable": {"max_tokens": 3}})
    short = await sdk.runs.wait(None, made["assistant_id"], input=say("long"))
    assert short["messages"][-1]["usage_metadata"]["output_tokens"] == 3
    longer = await sdk.runs.wait(
        None, made["assistant_id"], input=say("long"), context={"max_tokens": 5}
    )
    assert longer["messages"][-1]["usage_metadata"]["output_tokens"] == 5


async def test_deleting_an_assistant_can_take_its_threads_along(sdk, say):
    made = await sdk.assistants.create("agent")
    thread = await sdk.threads.create()
    await sdk.runs.wait(thread["thread_id"], made["assistant_id"], input=say("hello"))
    await sdk.assistants.delete(made["assistant_id"], delete_threads=True)
    with pytest.raises(NotFoundError):
        await sdk.threads.get(thread["thread_id"])
