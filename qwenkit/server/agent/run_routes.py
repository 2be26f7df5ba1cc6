"""`/agent/threads/{thread_id}/runs` and `/agent/runs`: answers, streamed or waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Request, Response

from qwenkit.server.agent import threads
from qwenkit.server.agent.encode import jsonable
from qwenkit.server.agent.event_log import FROM_THE_START
from qwenkit.server.agent.records import RunRecord, Thread
from qwenkit.server.agent.run_manager import Action, Run
from qwenkit.server.agent.run_request import GRAPH_ID, chosen, read_run
from qwenkit.server.agent.run_sse import event_stream, run_chunks, run_headers
from qwenkit.server.agent.schema import (
    MAX_ID,
    MAX_LIMIT,
    CancelBody,
    RunBody,
    RunStatus,
    ThreadBody,
)
from qwenkit.server.agent.search import page
from qwenkit.server.agent.service import AgentNow, OpenAgent
from qwenkit.server.body import StrictListRoute, StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.errors import NotThere
from qwenkit.server.openapi import fails_with

MAX_BATCH = 64

router = APIRouter(prefix="/agent", tags=["agent"], route_class=StrictRoute)
batches = APIRouter(prefix="/agent", tags=["agent"], route_class=StrictListRoute)
ThreadId = Annotated[str, Path(max_length=MAX_ID)]
RunId = Annotated[str, Path(max_length=MAX_ID)]
LastEventId = Annotated[str | None, Header(max_length=64)]


@router.post(
    "/threads/{thread_id}/runs",
    summary="Start a run and don't wait for it",
    responses=fails_with(409),
)
async def create(
    thread_id: ThreadId, body: RunBody, agent: AgentNow, response: Response
) -> dict[str, Any]:
    """The run's row; its stream can be joined."""
    run = await _start(agent, body, thread_id)
    response.headers.update(run_headers(run, to="stream"))
    return run.record.as_json()


@router.post(
    "/threads/{thread_id}/runs/stream",
    summary="Run and stream",
    response_model=None,
    responses=fails_with(409),
)
async def stream(thread_id: ThreadId, body: RunBody, agent: AgentNow) -> Response:
    """What happens, as server-sent events."""
    run = await _start(agent, body, thread_id)
    return _streamed(run, cancels=body.on_disconnect == "cancel")


@router.post(
    "/threads/{thread_id}/runs/wait",
    summary="Run and wait",
    response_model=None,
    responses=fails_with(409),
)
async def wait(
    thread_id: ThreadId, body: RunBody, agent: AgentNow, request: Request, response: Response
) -> Any:
    """The thread's last state, or `__error__`."""
    run = await _start(agent, body, thread_id)
    response.headers.update(run_headers(run, to="join"))
    return await _waited(request, run, cancels=body.on_disconnect == "cancel")


@router.get("/threads/{thread_id}/runs", summary="A thread's runs")
async def list_runs(
    thread_id: ThreadId,
    agent: AgentNow,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 10,
    offset: Annotated[int, Query(ge=0)] = 0,
    status: Annotated[RunStatus | None, Query()] = None,
) -> list[dict[str, Any]]:
    """Newest first."""
    await threads.get_thread(agent, thread_id)
    found = [run for run in await agent.records.runs(thread_id) if status in (None, run.status)]
    return [run.as_json() for run in page(found, limit=limit, offset=offset)]


@router.get("/threads/{thread_id}/runs/{run_id}", summary="A run")
async def get(thread_id: ThreadId, run_id: RunId, agent: AgentNow) -> dict[str, Any]:
    """Its row."""
    return (await _record(agent, thread_id, run_id)).as_json()


@router.delete("/threads/{thread_id}/runs/{run_id}", summary="Delete a run", status_code=204)
async def delete(thread_id: ThreadId, run_id: RunId, agent: AgentNow) -> None:
    """Ends it if it is not over; what it did to the thread stays."""
    await _record(agent, thread_id, run_id)
    if (run := agent.runs.known(thread_id, run_id)) is not None:
        run.cancel("interrupt")
        await run.done.wait()
        agent.runs.forget(run_id)
    await agent.records.delete_run(run_id)


@router.post(
    "/threads/{thread_id}/runs/{run_id}/cancel",
    summary="Cancel a run",
    status_code=202,
    response_class=Response,
    responses={204: {"description": "It is over; `wait` asked for that."}},
)
async def cancel(
    thread_id: ThreadId,
    run_id: RunId,
    agent: AgentNow,
    wait: Annotated[bool, Query()] = False,
    action: Annotated[Action, Query()] = "interrupt",
) -> Response:
    """`rollback` also undoes what it did to the thread. A run that is over stays as it is."""
    await _record(agent, thread_id, run_id)
    run = agent.runs.known(thread_id, run_id)
    if run is not None:
        run.cancel(action)
        if wait:
            await run.done.wait()
    return Response(status_code=204 if wait else 202)


@router.get("/threads/{thread_id}/runs/{run_id}/join", summary="Wait for a run")
async def join(thread_id: ThreadId, run_id: RunId, agent: AgentNow, request: Request) -> Any:
    """The thread's last state, or `__error__`."""
    run = agent.runs.known(thread_id, run_id)
    if run is not None:
        return await _waited(request, run, cancels=False)
    await _record(agent, thread_id, run_id)
    state = (await threads.get_thread(agent, thread_id)).state
    return (state and state.values) or {}


@router.get(
    "/threads/{thread_id}/runs/{run_id}/stream", summary="Join a run's stream", response_model=None
)
async def join_stream(
    thread_id: ThreadId,
    run_id: RunId,
    agent: AgentNow,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
    stream_mode: Annotated[list[str] | None, Query()] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Behind `Last-Event-ID` (`-1` is the start); without it from the start, if it is resumable."""
    run = agent.runs.known(thread_id, run_id)
    if run is None:
        await _record(agent, thread_id, run_id)
        return event_stream(_nothing())
    return _joined(run, last_event_id, stream_mode, cancels=cancel_on_disconnect)


@router.post("/runs", summary="Start a run without a thread")
async def create_stateless(body: RunBody, agent: AgentNow, response: Response) -> dict[str, Any]:
    """On a thread of its own, thrown away when it is over unless `on_completion` is `keep`."""
    run = await _start(agent, body, None)
    response.headers.update(run_headers(run, to="stream"))
    return run.record.as_json()


@router.post("/runs/stream", summary="Run without a thread and stream", response_model=None)
async def stream_stateless(body: RunBody, agent: AgentNow) -> Response:
    """What happens, as server-sent events; the run ends when the client goes away."""
    run = await _start(agent, body, None)
    return _streamed(run, cancels=body.on_disconnect != "continue")


@router.get(
    "/runs/{run_id}/stream", summary="Join the stream of a run by its id alone", response_model=None
)
async def join_by_id(
    run_id: RunId,
    agent: AgentNow,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
    stream_mode: Annotated[list[str] | None, Query()] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """As by its thread's; only while it is not over, or not for long."""
    run = agent.runs.known(None, run_id)
    if run is None:
        raise NotThere(f"no run {run_id!r}", param="run_id")
    return _joined(run, last_event_id, stream_mode, cancels=cancel_on_disconnect)


@router.post("/runs/wait", summary="Run without a thread and wait", response_model=None)
async def wait_stateless(body: RunBody, agent: AgentNow, request: Request) -> Any:
    """The last state, or `__error__`."""
    run = await _start(agent, body, None)
    return await _waited(request, run, cancels=body.on_disconnect != "continue")


@batches.post("/runs/batch", summary="Start several runs without threads")
async def batch(
    bodies: Annotated[list[RunBody], Body(max_length=MAX_BATCH)], agent: AgentNow
) -> list[dict[str, Any]]:
    """All of them are checked first."""
    for body in bodies:
        read_run(body, agent.assistants.get(body.assistant_id))
    return [(await _start(agent, body, None)).record.as_json() for body in bodies]


@router.post("/runs/cancel", summary="Cancel several runs", status_code=204)
async def cancel_many(
    body: CancelBody, agent: AgentNow, action: Annotated[Action, Query()] = "interrupt"
) -> None:
    """By thread and ids, or by their status."""
    for run in agent.runs.all_active():
        record = run.record
        if body.thread_id not in (None, record.thread_id):
            continue
        by_id = body.run_ids is not None and record.run_id in body.run_ids
        by_status = body.status in ("all", record.status)
        if by_id or by_status:
            run.cancel(action)


async def _start(agent: OpenAgent, body: RunBody, thread_id: str | None) -> Run:
    assistant = agent.assistants.get(body.assistant_id)
    request = read_run(body, assistant)
    await threads.check_checkpoint(agent, thread_id, request.checkpoint_id)
    temporary = thread_id is None and body.on_completion != "keep"
    thread = await _thread(agent, body, thread_id, temporary=temporary)
    run = await agent.runs.start(
        thread,
        request,
        assistant_id=assistant["assistant_id"],
        strategy=body.multitask_strategy,
        subgraphs=bool(body.stream_subgraphs),
        resumable=bool(body.stream_resumable),
        temporary=temporary,
    )
    await _note_run(agent, thread, body, assistant)
    return run


async def _thread(
    agent: OpenAgent, body: RunBody, thread_id: str | None, *, temporary: bool
) -> Thread:
    if thread_id is None:
        return await threads.create_thread(agent, ThreadBody(), temporary=temporary)
    if body.if_not_exists == "create":
        new = ThreadBody(thread_id=thread_id, if_exists="do_nothing")
        return await threads.create_thread(agent, new)
    return await threads.get_thread(agent, thread_id)


async def _note_run(
    agent: OpenAgent, thread: Thread, body: RunBody, assistant: dict[str, Any]
) -> None:
    """The thread's row tells by which assistant it was used last, and what that chose."""
    ids = {"graph_id": GRAPH_ID, "assistant_id": assistant["assistant_id"]}
    choices = chosen({"config": body.config, "context": body.context})
    await agent.records.change_thread(
        thread.thread_id,
        metadata={**thread.metadata, **ids},
        config={**thread.config, "configurable": jsonable(choices)},
    )


async def _record(agent: OpenAgent, thread_id: str, run_id: str) -> RunRecord:
    run = agent.runs.known(thread_id, run_id)
    if run is not None and not run.done.is_set():
        return run.record
    for record in await agent.records.runs(thread_id):
        if record.run_id == run_id:
            return record
    raise NotThere(f"no run {run_id!r} in thread {thread_id!r}", param="run_id")


def _streamed(run: Run, *, cancels: bool) -> Response:
    run.streamed = True
    chunks = run_chunks(run, after=FROM_THE_START, cancels=cancels)
    return event_stream(chunks, run_headers(run, to="stream"))


def _joined(
    run: Run, last_event_id: str | None, stream_mode: list[str] | None, *, cancels: bool
) -> Response:
    after = last_event_id or (FROM_THE_START if run.resumable else None)
    modes = [mode for mode in stream_mode or () if mode]
    chunks = run_chunks(run, after=after, modes=modes, cancels=cancels)
    return event_stream(chunks, run_headers(run, to="stream"))


async def _waited(request: Request, run: Run, *, cancels: bool) -> Any:
    try:
        await unless_disconnected(request, run.done.wait())
    finally:
        if cancels:
            run.cancel("interrupt")
    return run.result


async def _nothing() -> AsyncGenerator[bytes, None]:
    yield b": the run is over\n\n"
