"""`/agent/assistants`: presets of what runs choose, and the graph that they all run."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from qwenkit.server.agent.encode import jsonable
from qwenkit.server.agent.records import contains
from qwenkit.server.agent.run_request import GRAPH_ID
from qwenkit.server.agent.schema import (
    MAX_ID,
    AssistantBody,
    AssistantPatch,
    AssistantSearch,
    LatestBody,
    ThreadSearch,
    VersionsBody,
)
from qwenkit.server.agent.search import find_threads, page, page_headers, select
from qwenkit.server.agent.service import AgentNow
from qwenkit.server.agent.threads import delete_thread
from qwenkit.server.body import StrictRoute
from qwenkit.server.openapi import fails_with

router = APIRouter(prefix="/agent/assistants", tags=["agent"], route_class=StrictRoute)
AssistantId = Annotated[str, Path(max_length=MAX_ID)]


@router.post("", summary="Make an assistant", responses=fails_with(409))
async def create(body: AssistantBody, agent: AgentNow) -> dict[str, Any]:
    """An assistant is a preset of what runs choose; its config is checked here."""
    return await agent.assistants.create(body)


@router.post("/search", summary="Find assistants")
async def search(
    query: AssistantSearch, agent: AgentNow, response: Response
) -> list[dict[str, Any]]:
    """One page; `X-Pagination-Total` and `X-Pagination-Next` tell of the others."""
    found = agent.assistants.search(query)
    response.headers.update(page_headers(len(found), limit=query.limit, offset=query.offset))
    return [
        select(each, query.select) for each in page(found, limit=query.limit, offset=query.offset)
    ]


@router.post("/count", summary="Count assistants")
async def count(query: AssistantSearch, agent: AgentNow) -> int:
    """How many a search finds."""
    return len(agent.assistants.search(query))


@router.get("/{assistant_id}", summary="An assistant")
async def get(assistant_id: AssistantId, agent: AgentNow) -> dict[str, Any]:
    """By its id, or by the graph's name."""
    return agent.assistants.get(assistant_id)


@router.patch("/{assistant_id}", summary="Change an assistant", responses=fails_with(409))
async def update(
    assistant_id: AssistantId, body: AssistantPatch, agent: AgentNow
) -> dict[str, Any]:
    """Makes a new version."""
    return await agent.assistants.update(assistant_id, body)


@router.delete(
    "/{assistant_id}",
    summary="Delete an assistant",
    status_code=204,
    responses=fails_with(409),
)
async def delete(
    assistant_id: AssistantId,
    agent: AgentNow,
    delete_threads: Annotated[bool, Query()] = False,
) -> None:
    """With its threads, if asked."""
    found = agent.assistants.get(assistant_id)["assistant_id"]
    await agent.assistants.delete(found)
    if delete_threads:
        query = ThreadSearch(metadata={"assistant_id": found})
        for thread in await find_threads(agent.records, query):
            await delete_thread(agent, thread.thread_id)


@router.get("/{assistant_id}/graph", summary="The graph's nodes and edges")
async def graph(
    assistant_id: AssistantId,
    agent: AgentNow,
    xray: Annotated[bool | int, Query()] = False,
) -> dict[str, Any]:
    """As LangGraph draws it."""
    agent.assistants.get(assistant_id)
    drawn = await agent.graph.aget_graph(xray=xray)
    nodes_and_edges: dict[str, Any] = drawn.to_json()
    return nodes_and_edges


@router.get("/{assistant_id}/schemas", summary="The graph's JSON schemas")
async def schemas(assistant_id: AssistantId, agent: AgentNow) -> dict[str, Any]:
    """Of its input, its output, its state and its config."""
    agent.assistants.get(assistant_id)
    return {
        "graph_id": GRAPH_ID,
        "input_schema": jsonable(agent.graph.get_input_jsonschema()),
        "output_schema": jsonable(agent.graph.get_output_jsonschema()),
        "state_schema": jsonable(agent.graph.get_output_jsonschema()),
        "config_schema": CONFIG_SCHEMA,
        "context_schema": CONFIG_SCHEMA,
    }


@router.get("/{assistant_id}/subgraphs", summary="The graph's subgraphs")
@router.get("/{assistant_id}/subgraphs/{namespace}", include_in_schema=False)
async def subgraphs(
    assistant_id: AssistantId, agent: AgentNow, namespace: str = ""
) -> dict[str, Any]:
    """There are none."""
    del namespace
    agent.assistants.get(assistant_id)
    return {}


@router.post("/{assistant_id}/versions", summary="An assistant's versions")
async def versions(
    assistant_id: AssistantId, query: VersionsBody, agent: AgentNow
) -> list[dict[str, Any]]:
    """Newest first."""
    found = [
        each
        for each in reversed(agent.assistants.versions(assistant_id))
        if contains(each["metadata"], query.metadata or {})
    ]
    return list(page(found, limit=query.limit, offset=query.offset))


@router.post(
    "/{assistant_id}/latest",
    summary="Choose an assistant's version",
    responses=fails_with(409),
)
async def latest(assistant_id: AssistantId, body: LatestBody, agent: AgentNow) -> dict[str, Any]:
    """Runs take that one from then on."""
    return await agent.assistants.set_latest(assistant_id, body.version)


CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "description": "The served model, or an adapter"},
        "thinking": {"type": "boolean", "description": "Whether the model thinks"},
        "thinking_budget": {"type": "integer", "minimum": 0},
        "temperature": {"type": "number", "minimum": 0},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "top_k": {"type": "integer", "minimum": 0},
        "min_p": {"type": "number", "minimum": 0, "maximum": 1},
        "presence_penalty": {"type": "number"},
        "frequency_penalty": {"type": "number"},
        "repeat_penalty": {"type": "number"},
        "seed": {"type": "integer"},
        "max_tokens": {"type": "integer", "minimum": 1},
        "max_steps": {"type": "integer", "minimum": 1},
        "system_prompt": {"type": "string"},
        "tools": {"type": "array", "items": {"type": "string"}},
        "allowed_tools": {"type": "array", "items": {"type": "string"}},
        "store": {"type": "boolean", "description": "False keeps answers out of the log"},
    },
}
