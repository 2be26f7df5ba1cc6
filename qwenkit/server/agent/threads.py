"""What can be done with a thread as a whole. Knows rows, checkpoints and runs; no HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenkit.errors import InvalidRequest
from qwenkit.server.agent.encode import jsonable, waiting_json
from qwenkit.server.agent.records import Records, Thread, ThreadState, now
from qwenkit.server.agent.run_request import NODES, read_update
from qwenkit.server.agent.schema import ThreadBody
from qwenkit.server.errors import Conflict, NotThere

if TYPE_CHECKING:
    from qwenkit.agent.graph import Agent
    from qwenkit.server.agent.service import OpenAgent


async def get_thread(agent: OpenAgent, thread_id: str) -> Thread:
    """A thread with its state.

    Raises:
        NotThere: There is none.
    """
    thread = await agent.records.thread(thread_id)
    if thread is None:
        raise NotThere(f"no thread {thread_id!r}", param="thread_id")
    return thread


async def create_thread(agent: OpenAgent, body: ThreadBody, *, temporary: bool = False) -> Thread:
    """A new thread, or the one that is there.

    Raises:
        Conflict: There is one, and it is not to be taken.
        InvalidRequest: Its states can't be.
    """
    thread_id = body.thread_id or str(uuid.uuid4())
    there = await agent.records.thread(thread_id)
    if there is not None:
        if body.if_exists == "do_nothing":
            return there
        raise Conflict(f"there is a thread {thread_id!r} already", param="thread_id")
    supersteps = _supersteps(body.supersteps or ())
    moment = now()
    thread = Thread(
        thread_id=thread_id,
        created_at=moment,
        updated_at=moment,
        state_updated_at=moment,
        status="idle",
        metadata=body.metadata or {},
        config={"temporary": True} if temporary else {},
        state=ThreadState(),
    )
    await agent.records.put_thread(thread)
    if supersteps:
        config: Any = {"configurable": {"thread_id": thread_id}}
        await agent.graph.abulk_update_state(config, supersteps)
        await refresh_thread(agent.graph, agent.records, thread_id)
    return await get_thread(agent, thread_id)


async def merge_metadata(agent: OpenAgent, thread_id: str, given: Mapping[str, Any]) -> None:
    """Merge metadata with what is there; null removes a key.

    Raises:
        NotThere: There is no such thread.
    """
    merged = {**(await get_thread(agent, thread_id)).metadata, **given}
    kept = {name: value for name, value in merged.items() if value is not None}
    await agent.records.change_thread(thread_id, metadata=kept)


async def delete_thread(agent: OpenAgent, thread_id: str) -> None:
    """Forget a thread, its history and its runs; what runs is ended."""
    await agent.runs.cancel_thread(thread_id)
    await agent.database.saver.adelete_thread(thread_id)
    await agent.records.delete_thread(thread_id)


async def copy_thread(agent: OpenAgent, thread_id: str) -> Thread:
    """A new thread with the same history.

    Raises:
        NotThere: There is no such thread.
    """
    source = await get_thread(agent, thread_id)
    body = ThreadBody(metadata=source.metadata)
    target = await create_thread(agent, body)
    await agent.database.copy_checkpoints(thread_id, target.thread_id)
    await refresh_thread(agent.graph, agent.records, target.thread_id)
    return await get_thread(agent, target.thread_id)


async def keep_latest(agent: OpenAgent, thread_id: str) -> None:
    """Forget a thread's history but its newest state.

    Raises:
        Conflict: It is busy.
    """
    refuse_busy(agent, thread_id)
    found = agent.database.saver.alist({"configurable": {"thread_id": thread_id}})
    ids = [each.config["configurable"]["checkpoint_id"] async for each in found]
    await agent.database.delete_checkpoints(thread_id, ids[1:])


async def refresh_thread(graph: Agent, records: Records, thread_id: str) -> None:
    """Let a thread's row tell its newest checkpoint's state."""
    snapshot: Any = await graph.aget_state({"configurable": {"thread_id": thread_id}})
    waiting = waiting_json(snapshot)
    state = ThreadState(values=jsonable(snapshot.values) or None, interrupts=waiting)
    status = "interrupted" if waiting else "idle"
    await records.change_thread(thread_id, status=status, state=state)


def refuse_busy(agent: OpenAgent, thread_id: str) -> None:
    """Check that nothing runs in a thread.

    Raises:
        Conflict: Something does.
    """
    if agent.runs.active(thread_id):
        raise Conflict("the thread is busy", param="thread_id")


async def check_checkpoint(
    agent: OpenAgent, thread_id: str | None, checkpoint_id: str | None
) -> None:
    """Check that a thread has a checkpoint, if one is named.

    Raises:
        NotThere: It has not.
    """
    if checkpoint_id is None:
        return
    if thread_id is None or not await agent.database.has_checkpoint(thread_id, checkpoint_id):
        raise NotThere("the thread has no such checkpoint", param="checkpoint_id")


def check_node(name: str | None) -> str | None:
    """The name of a node of the graph, if one is given.

    Raises:
        InvalidRequest: There is none of that name.
    """
    if name is None or name in (*NODES, "__start__", "__end__"):
        return name
    raise InvalidRequest(
        f"there is no node {name!r}", param="as_node", hint=f"there are {', '.join(NODES)}"
    )


def _supersteps(given: Sequence[dict[str, Any]]) -> list[list[Any]]:
    from langgraph.types import StateUpdate

    try:
        return [
            [
                StateUpdate(read_update(each.get("values")), check_node(each["as_node"]))
                for each in step["updates"]
            ]
            for step in given
        ]
    except (KeyError, TypeError, AttributeError) as exc:
        raise InvalidRequest(
            'supersteps are [{"updates": [{"values", "as_node"}]}]', param="supersteps"
        ) from exc
