"""Turns a run's body into what the graph takes: input, config, options. Knows LangGraph's types.

Of a config's `configurable` only the agent's own choices are passed on: LangGraph keeps values of
its own there, which no client may set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qwenkit.agent.choices import SAMPLING, Choices, read_choices
from qwenkit.errors import InvalidMessages, InvalidRequest
from qwenkit.server.agent.schema import CommandBody, RunBody

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

GRAPH_ID = "agent"
END = "__end__"
STORE = "store"
CHOICES = (*(each.name for each in fields(Choices) if each.name != "sampling"), *SAMPLING, STORE)
NODES = ("model", "tools")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A run as the graph takes it.

    Args:
        given: The input, a `Command`, or None to go on.
        ends: Whether the run only ends what the thread waits for (`goto` the end).
        configurable: What it chooses, and where it goes on from.
        metadata: Kept with its checkpoints.
        tags: For tracing.
        recursion_limit: Most steps; None leaves it to the graph.
        modes: What its stream tells.
        options: More for LangGraph's `astream`.
    """

    given: Any
    ends: bool
    configurable: Mapping[str, Any]
    metadata: Mapping[str, Any]
    tags: tuple[str, ...]
    recursion_limit: int | None
    modes: frozenset[str]
    options: Mapping[str, Any]

    @property
    def checkpoint_id(self) -> str | None:
        """Where it goes on from; None is where the thread is."""
        named: str | None = self.configurable.get("checkpoint_id")
        return named

    @property
    def store(self) -> bool | None:
        """Whether its answers are to be recorded; None says nothing."""
        named: bool | None = self.configurable.get(STORE)
        return named

    @property
    def user(self) -> str | None:
        """Who asks, as its metadata says."""
        named = self.metadata.get("user")
        return named if isinstance(named, str) else None

    def config(self, *, thread_id: str, run_id: str, assistant_id: str) -> RunnableConfig:
        """For LangGraph. Every run has an id of its own: the same one twice means going on."""
        ids = {"run_id": run_id, "assistant_id": assistant_id, "graph_id": GRAPH_ID}
        config: RunnableConfig = {
            "configurable": {**self.configurable, "thread_id": thread_id},
            "metadata": {**self.metadata, **ids},
            "tags": [*self.tags],
            "run_id": UUID(run_id),
        }
        if self.recursion_limit is not None:
            config["recursion_limit"] = self.recursion_limit
        return config


def read_run(body: RunBody, assistant: Mapping[str, Any]) -> RunRequest:
    """What a body asks for, on top of what its assistant chooses.

    Raises:
        InvalidRequest: Something is wrong or not supported; `param` names it.
    """
    for name in ("webhook", "after_seconds"):
        if getattr(body, name) is not None:
            raise InvalidRequest(f"{name} is not supported", param=name)
    config = body.config or {}
    command = body.command
    ends = command is not None and command.goto in (END, [END])
    return RunRequest(
        given=_input(body.input) if command is None else None if ends else _command(command),
        ends=ends,
        configurable={**chosen(assistant), **_chosen(body.config, body.context), **_place(body)},
        metadata=body.metadata or {},
        tags=_tags(config.get("tags")),
        recursion_limit=_recursion_limit(config.get("recursion_limit")),
        modes=_modes(body),
        options={
            "durability": body.durability or "sync",
            "interrupt_before": body.interrupt_before,
            "interrupt_after": body.interrupt_after,
        },
    )


def chosen(owner: Mapping[str, Any]) -> dict[str, Any]:
    """What an assistant's config and context choose.

    Raises:
        InvalidRequest: A value can't be; `param` names it.
    """
    return _chosen(owner.get("config"), owner.get("context"))


def read_update(values: Any) -> Any:
    """State as a client writes it.

    Raises:
        InvalidRequest: It is none; `param` names the place.
    """
    if values is None:
        return None
    if isinstance(values, list):
        merged: dict[str, Any] = {}
        for each in values:
            merged |= read_update(each) or {}
        return merged
    if not isinstance(values, Mapping):
        raise InvalidRequest("values must be an object", param="values")
    return _state(values, "values")


def _chosen(config: Any, context: Any) -> dict[str, Any]:
    given = config.get("configurable") if isinstance(config, Mapping) else None
    merged: dict[str, Any] = {}
    for source in (given, context):
        if source is not None and not isinstance(source, Mapping):
            raise InvalidRequest("configurable must be an object", param="config.configurable")
        merged |= {name: value for name, value in (source or {}).items() if name in CHOICES}
    read_choices(merged)
    if not isinstance(merged.get(STORE), bool | None):
        raise InvalidRequest("store must be true or false", param=f"config.configurable.{STORE}")
    return merged


def _place(body: RunBody) -> dict[str, Any]:
    named = body.checkpoint.checkpoint_id if body.checkpoint is not None else None
    checkpoint_id = named or body.checkpoint_id
    return {"checkpoint_id": checkpoint_id, "checkpoint_ns": ""} if checkpoint_id else {}


def _modes(body: RunBody) -> frozenset[str]:
    modes = body.stream_mode
    if modes is None:
        return frozenset({"values"})
    return frozenset({modes} if isinstance(modes, str) else modes)


def _input(given: Any) -> Any:
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise _no_input()
    state = _state(given, "input")
    if not state:
        raise _no_input()
    return state


def _no_input() -> InvalidRequest:
    return InvalidRequest('input must be {"messages": […]}', param="input")


def _state(given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """State as the graph takes it: a list of messages that is null is none."""
    _check_numbers(given, place)
    others = {name: value for name, value in given.items() if name != "messages"}
    return others | _messages(given, f"{place}.messages")


def _check_numbers(value: Any, place: str) -> None:
    """Refuse what no checkpoint can hold."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, int) and not -(2**63) <= item < 2**64:
            raise InvalidRequest(
                f"{place} has a whole number of over 64 bits", param=place, hint="send it as text"
            )


def _messages(owner: Mapping[str, Any], place: str) -> dict[str, Any]:
    from langchain_core.messages import convert_to_messages
    from langchain_core.messages.modifier import RemoveMessage

    from qwenkit.agent.conversation import to_openai

    given = owner.get("messages")
    if given is None:
        return {}
    listed = given if isinstance(given, list) else [given]
    messages: list[Any] = []
    for index, each in enumerate(listed):
        if isinstance(each, Mapping) and each.get("type") == "remove" and each.get("id"):
            messages.append(RemoveMessage(id=str(each["id"])))
            continue
        try:
            messages += convert_to_messages([each])
            to_openai(messages[-1:])  # what no model reads would be in the thread's way for ever
        except (ValueError, TypeError, KeyError, NotImplementedError, InvalidMessages) as exc:
            raise InvalidRequest(f"{place}[{index}] is no message", param=place) from exc
    return {"messages": messages}


def _command(command: CommandBody) -> Any:
    from langgraph.types import Command

    _check_numbers(command.resume, "command.resume")
    update = command.update
    if isinstance(update, list):
        update = dict(_pair(each) for each in update)
    return Command(resume=command.resume, goto=_goto(command.goto), update=read_update(update))


def _pair(value: Any) -> tuple[str, Any]:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        return value[0], value[1]
    raise InvalidRequest("command.update must be an object", param="command.update")


def _goto(goto: Any) -> Any:
    from langgraph.types import Send

    if goto is None:
        return ()
    if isinstance(goto, list):
        return [_goto(each) for each in goto]
    name = goto.get("node") if isinstance(goto, Mapping) else goto
    if name not in NODES:
        raise InvalidRequest(
            f"there is no node {name!r}", param="command.goto", hint=f"there are {', '.join(NODES)}"
        )
    return Send(name, read_update(goto.get("input"))) if isinstance(goto, Mapping) else name


def _tags(tags: Any) -> tuple[str, ...]:
    if tags is None:
        return ()
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        return tuple(tags)
    raise InvalidRequest("tags must be a list of strings", param="config.tags")


def _recursion_limit(limit: Any) -> int | None:
    if limit is None or (type(limit) is int and 1 <= limit <= 1000):
        return limit
    raise InvalidRequest(
        "recursion_limit must be a whole number from 1 to 1000", param="config.recursion_limit"
    )
