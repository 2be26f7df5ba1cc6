"""LangGraph's values become JSON's. Knows their shapes; imports none of their classes."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any

_INTERNAL = "__pregel_"


def jsonable(value: Any) -> Any:
    """A value made of JSON's types alone: messages as they dump themselves, errors as objects."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {
                str(key): jsonable(item)
                for key, item in value.items()
                if not str(key).startswith(_INTERNAL)
            }
        case list() | tuple() | Set():
            return [jsonable(item) for item in value]
        case datetime():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case BaseException():
            return {"error": type(value).__name__, "message": str(value)}
    if _is_interrupt(value):
        return interrupt_json(value)
    if callable(getattr(value, "model_dump", None)):
        return jsonable(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: jsonable(getattr(value, each.name)) for each in dataclasses.fields(value)
        }
    return str(value)


def interrupt_json(interrupt: Any) -> dict[str, Any]:
    """A question that a run waits with."""
    return {"id": interrupt.id, "value": jsonable(interrupt.value)}


def state_json(snapshot: Any, thread_id: str) -> dict[str, Any]:
    """A `StateSnapshot` as the protocol's ThreadState."""
    checkpoint = checkpoint_json(snapshot.config, thread_id)
    parent = snapshot.parent_config and checkpoint_json(snapshot.parent_config, thread_id)
    return {
        "values": jsonable(snapshot.values),
        "next": list(snapshot.next),
        "tasks": [_task_json(task, thread_id) for task in snapshot.tasks],
        "metadata": jsonable(snapshot.metadata or {}),
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": [interrupt_json(each) for each in snapshot.interrupts],
        "checkpoint_id": checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
    }


def checkpoint_json(config: Mapping[str, Any], thread_id: str) -> dict[str, Any]:
    """Where a state is kept; `checkpoint_id` is null for a thread without any."""
    place = config.get("configurable") or {}
    return {
        "checkpoint_id": place.get("checkpoint_id"),
        "thread_id": thread_id,
        "checkpoint_ns": place.get("checkpoint_ns") or "",
    }


def waiting_json(snapshot: Any) -> dict[str, Any]:
    """The questions that a thread waits with, by task."""
    return {
        task.id: [interrupt_json(each) for each in task.interrupts]
        for task in snapshot.tasks
        if task.interrupts
    }


def _task_json(task: Any, thread_id: str) -> dict[str, Any]:
    state = task.state
    nested = isinstance(state, Mapping)
    return {
        "id": task.id,
        "name": task.name,
        "path": jsonable(task.path),
        "error": None if task.error is None else str(task.error),
        "interrupts": [interrupt_json(each) for each in task.interrupts],
        "checkpoint": checkpoint_json(state, thread_id) if nested else None,
        "state": None if nested or state is None else state_json(state, thread_id),
        "result": jsonable(task.result),
    }


def _is_interrupt(value: Any) -> bool:
    return type(value).__name__ == "Interrupt" and hasattr(value, "id") and hasattr(value, "value")
