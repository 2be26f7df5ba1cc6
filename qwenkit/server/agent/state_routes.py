"""`/agent/threads/{thread_id}/state` and `/history`: what a thread holds, and how it came to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query

from qwenkit.errors import InvalidRequest
from qwenkit.server.agent import threads
from qwenkit.server.agent.encode import checkpoint_json, state_json
from qwenkit.server.agent.run_request import read_update
from qwenkit.server.agent.schema import (
    MAX_ID,
    MAX_LIMIT,
    CheckpointBody,
    HistoryBody,
    StateBody,
    StateQuery,
)
from qwenkit.server.agent.search import select as choose
from qwenkit.server.agent.service import AgentNow, OpenAgent
from qwenkit.server.body import StrictRoute
from qwenkit.server.openapi import fails_with

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

DEFAULT_LIMIT = 10
"""States that clients ask for when nobody told them how many."""
GENEROUS_LIMIT = 100
"""States that they get: from ten alone they would take the wrong checkpoint for an older message
that is edited, because they look for the first state that has it."""

FILTER_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""What a checkpointer's database can look for: names, with dots into what they hold."""

router = APIRouter(prefix="/agent/threads/{thread_id}", tags=["agent"], route_class=StrictRoute)
ThreadId = Annotated[str, Path(max_length=MAX_ID)]
Fields = Annotated[list[str] | None, Query()]


@router.get("/state", summary="A thread's newest state")
async def newest(
    thread_id: ThreadId,
    agent: AgentNow,
    subgraphs: Annotated[bool, Query()] = False,
    select: Fields = None,
) -> dict[str, Any]:
    """Its values, what comes next, and what it waits for."""
    return choose(await _state(agent, thread_id, None, subgraphs=subgraphs), select)


@router.post("/state", summary="Change a thread's state", responses=fails_with(409))
async def update(thread_id: ThreadId, body: StateBody, agent: AgentNow) -> dict[str, Any]:
    """As if a node had written the values; makes a checkpoint, a branch where one is named."""
    from langgraph.errors import InvalidUpdateError

    await threads.get_thread(agent, thread_id)
    threads.refuse_busy(agent, thread_id)
    checkpoint_id = _named(body.checkpoint, body.checkpoint_id)
    await threads.check_checkpoint(agent, thread_id, checkpoint_id)
    config = _config(thread_id, checkpoint_id)
    try:
        changed = await agent.graph.aupdate_state(
            config, read_update(body.values), as_node=threads.check_node(body.as_node)
        )
    except InvalidUpdateError as exc:
        raise InvalidRequest(str(exc), param="as_node") from exc
    await threads.refresh_thread(agent.graph, agent.records, thread_id)
    checkpoint = checkpoint_json(changed, thread_id)
    return {"checkpoint": checkpoint, "checkpoint_id": checkpoint["checkpoint_id"]}


@router.post("/state/checkpoint", summary="A thread's state at a checkpoint")
async def at_checkpoint(thread_id: ThreadId, body: StateQuery, agent: AgentNow) -> dict[str, Any]:
    """The same as by its id."""
    return await _state(agent, thread_id, _named(body.checkpoint, None), subgraphs=body.subgraphs)


@router.get("/state/{checkpoint_id}", summary="A thread's state at a checkpoint, by its id")
async def by_id(
    thread_id: ThreadId,
    checkpoint_id: Annotated[str, Path(max_length=MAX_ID)],
    agent: AgentNow,
    subgraphs: Annotated[bool, Query()] = False,
    select: Fields = None,
) -> dict[str, Any]:
    """As it was then."""
    return choose(await _state(agent, thread_id, checkpoint_id, subgraphs=subgraphs), select)


@router.post("/history", summary="A thread's states, newest first")
async def history(thread_id: ThreadId, body: HistoryBody, agent: AgentNow) -> list[dict[str, Any]]:
    """With their true parents, from which clients compute branches.

    A limit of 10, which clients send when nobody chose one, gives up to 100 states; any other is
    kept to.
    """
    return await _history(agent, thread_id, body)


@router.get("/history", summary="The same, for clients that can't post")
async def history_by_get(
    thread_id: ThreadId,
    agent: AgentNow,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    before: Annotated[str | None, Query(min_length=1, max_length=MAX_ID)] = None,
) -> list[dict[str, Any]]:
    """A page of states."""
    return await _history(agent, thread_id, HistoryBody(limit=limit, before=before))


async def _history(agent: OpenAgent, thread_id: str, body: HistoryBody) -> list[dict[str, Any]]:
    _check_filter(body.metadata or {})
    await threads.get_thread(agent, thread_id)
    limit = GENEROUS_LIMIT if body.limit == DEFAULT_LIMIT else body.limit
    states = agent.graph.aget_state_history(
        _config(thread_id, _named(body.checkpoint, None)),
        filter=body.metadata,
        before=_before(thread_id, body.before),
        limit=limit,
    )
    return [state_json(each, thread_id) async for each in states]


def _check_filter(metadata: Mapping[str, Any]) -> None:
    for key, value in metadata.items():
        if not FILTER_KEY.fullmatch(key):
            raise InvalidRequest(
                f"metadata can't be searched for {key!r}",
                param="metadata",
                hint="use names of letters, digits, _ and -, with dots between them",
            )
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InvalidRequest(
                f"metadata.{key} is a whole number of over 64 bits", param=f"metadata.{key}"
            )


async def _state(
    agent: OpenAgent, thread_id: str, checkpoint_id: str | None, *, subgraphs: bool
) -> dict[str, Any]:
    await threads.get_thread(agent, thread_id)
    await threads.check_checkpoint(agent, thread_id, checkpoint_id)
    config = _config(thread_id, checkpoint_id)
    return state_json(await agent.graph.aget_state(config, subgraphs=subgraphs), thread_id)


def _named(checkpoint: CheckpointBody | None, checkpoint_id: str | None) -> str | None:
    return (checkpoint and checkpoint.checkpoint_id) or checkpoint_id


def _config(thread_id: str, checkpoint_id: str | None) -> RunnableConfig:
    configurable: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": ""}
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def _before(thread_id: str, before: Any) -> RunnableConfig | None:
    if isinstance(before, dict):
        place = before.get("configurable")
        before = (place if isinstance(place, dict) else before).get("checkpoint_id")
    elif isinstance(before, CheckpointBody):
        before = before.checkpoint_id
    return _config(thread_id, before) if isinstance(before, str) else None
