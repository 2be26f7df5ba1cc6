"""`/agent/threads`: conversations, found by what is known of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response

from qwenkit.server.agent import threads
from qwenkit.server.agent.run_sse import event_stream, thread_chunks
from qwenkit.server.agent.schema import (
    MAX_ID,
    ThreadBody,
    ThreadPatch,
    ThreadPrune,
    ThreadSearch,
)
from qwenkit.server.agent.search import extract, find_threads, page, page_headers, select
from qwenkit.server.agent.service import AgentNow
from qwenkit.server.body import StrictRoute
from qwenkit.server.openapi import fails_with

router = APIRouter(prefix="/agent/threads", tags=["agent"], route_class=StrictRoute)
ThreadId = Annotated[str, Path(max_length=MAX_ID)]


@router.post("", summary="Make a thread", responses=fails_with(409))
async def create(body: ThreadBody, agent: AgentNow) -> dict[str, Any]:
    """Or take the one that is there, with `if_exists: do_nothing`."""
    return (await threads.create_thread(agent, body)).as_json()


@router.post("/search", summary="Find threads")
async def search(query: ThreadSearch, agent: AgentNow, response: Response) -> list[dict[str, Any]]:
    """One page; `X-Pagination-Total` and `X-Pagination-Next` tell of the others."""
    found = await find_threads(agent.records, query)
    response.headers.update(page_headers(len(found), limit=query.limit, offset=query.offset))
    shown = await agent.records.with_states(page(found, limit=query.limit, offset=query.offset))
    answer = []
    for each in shown:
        whole = each.as_json()
        extracted = {"extracted": extract(whole, query.extract)} if query.extract else {}
        answer.append({**select(whole, query.select), **extracted})
    return answer


@router.post("/count", summary="Count threads")
async def count(query: ThreadSearch, agent: AgentNow) -> int:
    """How many a search finds."""
    return len(await find_threads(agent.records, query))


@router.post("/prune", summary="Throw threads or their histories away")
async def prune(body: ThreadPrune, agent: AgentNow) -> dict[str, int]:
    """Those that are not there are left out."""
    n_pruned = 0
    for thread_id in body.thread_ids:
        if await agent.records.thread(thread_id) is None:
            continue
        if body.strategy == "delete":
            await threads.delete_thread(agent, thread_id)
        else:
            await threads.keep_latest(agent, thread_id)
        n_pruned += 1
    return {"pruned_count": n_pruned}


@router.get("/{thread_id}", summary="A thread")
async def get(thread_id: ThreadId, agent: AgentNow) -> dict[str, Any]:
    """With its newest state."""
    return (await threads.get_thread(agent, thread_id)).as_json()


@router.patch(
    "/{thread_id}",
    summary="Change a thread's metadata",
    response_model=None,
    responses={204: {"description": "Where `Prefer: return=minimal` asked for no more."}},
)
async def update(
    thread_id: ThreadId, body: ThreadPatch, agent: AgentNow, request: Request
) -> dict[str, Any] | Response:
    """Merged with what is there; null removes a key."""
    await threads.merge_metadata(agent, thread_id, body.metadata or {})
    if "return=minimal" in request.headers.get("prefer", ""):
        return Response(status_code=204)
    return (await threads.get_thread(agent, thread_id)).as_json()


@router.patch("/{thread_id}/state", summary="Change a thread's metadata", status_code=204)
async def update_by_state(thread_id: ThreadId, body: ThreadPatch, agent: AgentNow) -> None:
    """The same, as the JavaScript SDK's `patchState` asks for it."""
    await threads.merge_metadata(agent, thread_id, body.metadata or {})


@router.delete("/{thread_id}", summary="Delete a thread", status_code=204)
async def delete(thread_id: ThreadId, agent: AgentNow) -> None:
    """With its history and its runs."""
    await threads.get_thread(agent, thread_id)
    await threads.delete_thread(agent, thread_id)


@router.post("/{thread_id}/copy", summary="Copy a thread")
async def copy(thread_id: ThreadId, agent: AgentNow) -> dict[str, Any]:
    """A new thread with the same history."""
    return (await threads.copy_thread(agent, thread_id)).as_json()


@router.get("/{thread_id}/stream", summary="What all runs of a thread tell", response_model=None)
async def stream(
    thread_id: ThreadId,
    agent: AgentNow,
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> Response:
    """From now on, until the client goes away."""
    del last_event_id  # a run's own stream can be joined again; this one is live
    await threads.get_thread(agent, thread_id)
    return event_stream(thread_chunks(agent.runs, thread_id))
