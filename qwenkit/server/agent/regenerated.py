"""Finds the answer that a run takes the place of. Knows checkpoints and messages.

A run from an earlier checkpoint regenerates an answer where the thread has one to the very same
messages: the newest of these. With other words of the user's it is a question of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwenkit.agent.database import Database

MAX_LOOKED_AT = 100
"""Newest checkpoints of a thread that are searched."""


async def regenerated_answer(
    database: Database, thread_id: str, checkpoint_id: str | None, given: Any
) -> str | None:
    """The id of the answer's message.

    Args:
        checkpoint_id: Where the run goes on from; None is where the thread is.
        given: What it gives the graph.
    """
    if checkpoint_id is None or not (given is None or isinstance(given, Mapping)):
        return None
    place = await database.saver.aget_tuple(_config(thread_id, checkpoint_id))
    if place is None:
        return None
    asked = [*_messages(place), *((given or {}).get("messages") or ())]
    async for each in database.saver.alist(_config(thread_id), limit=MAX_LOOKED_AT):
        messages = _messages(each)
        follows = messages[len(asked) : len(asked) + 1]
        if follows and _is_answer(follows[0]) and all(map(_alike, asked, messages)):
            return str(follows[0].id)
    return None


def _messages(checkpoint: Any) -> Sequence[Any]:
    messages: Sequence[Any] = checkpoint.checkpoint["channel_values"].get("messages") or ()
    return messages


def _is_answer(message: Any) -> bool:
    return message.type == "ai" and bool(message.id)


def _alike(one: Any, other: Any) -> bool:
    if one.id is not None and one.id == other.id:
        return True
    return bool(one.type == other.type and one.content == other.content)


def _config(thread_id: str, checkpoint_id: str | None = None) -> Any:
    named = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **named}}
