"""The bodies of the LangGraph protocol. Pure data.

Fields that nobody here knows are ignored, null means absent. Values that are checked where they
are used are `Any` here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_ID = 128
MAX_LIMIT = 1000
JsonObject = dict[str, Any]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
Offset = Annotated[int, Field(ge=0)]
StreamMode = Literal[
    "values",
    "messages",
    "messages-tuple",
    "updates",
    "custom",
    "events",
    "debug",
    "tasks",
    "checkpoints",
]
Strategy = Literal["reject", "enqueue", "interrupt", "rollback"]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]
RunStatus = Literal["pending", "running", "error", "success", "timeout", "interrupted"]
IfExists = Literal["raise", "do_nothing"]
SortOrder = Literal["asc", "desc"]


class _Body(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="ignore", use_attribute_docstrings=True, protected_namespaces=()
    )


class CheckpointBody(_Body):
    """A place in a thread's history."""

    checkpoint_id: Id | None = None
    """Absent is the newest one."""
    checkpoint_ns: str | None = None
    """Only the root graph has checkpoints here."""


class CommandBody(_Body):
    """What to do with a thread instead of giving it input."""

    resume: Any = None
    """The answer to what the thread waits for."""
    goto: Any = None
    """The node to go on with: a name, `{"node", "input"}`, or a list of these."""
    update: Any = None
    """What to write into the state: an object, or a list of pairs."""


class RunBody(_Body):
    """A run to start."""

    assistant_id: Id
    """The assistant's id, or the graph's name."""
    input: Any = None
    """`{"messages": […]}`; absent goes on from where the thread is."""
    command: CommandBody | None = None
    """Instead of an input."""
    metadata: JsonObject | None = None
    """Kept with the run."""
    config: JsonObject | None = None
    """`configurable` chooses model, thinking, sampling and tools."""
    context: JsonObject | None = None
    """The same as `config.configurable`, as newer clients spell it."""
    stream_mode: StreamMode | list[StreamMode] | None = None
    """What a stream tells; `values` when absent."""
    stream_subgraphs: bool | None = None
    """Whether it tells what happens inside of nodes, too."""
    stream_resumable: bool | None = None
    """Whether events get ids and are kept, so that the stream can be joined again."""
    checkpoint: CheckpointBody | None = None
    """Where to go on from."""
    checkpoint_id: Id | None = None
    """The same, shorter."""
    interrupt_before: Literal["*"] | list[str] | None = None
    """Nodes before which to stop."""
    interrupt_after: Literal["*"] | list[str] | None = None
    """Nodes after which to stop."""
    multitask_strategy: Strategy | None = None
    """What becomes of the thread's other runs, or of this one, when there are any."""
    on_disconnect: Literal["cancel", "continue"] | None = None
    """What happens when the client goes away."""
    on_completion: Literal["delete", "keep"] | None = None
    """What becomes of the thread of a run that was started without one."""
    if_not_exists: Literal["create", "reject"] | None = None
    """Whether to make the thread where there is none."""
    durability: Literal["sync", "async", "exit"] | None = None
    """When checkpoints are written; `sync` when absent."""
    webhook: Any = None
    """Not supported."""
    after_seconds: Any = None
    """Not supported."""


class ThreadBody(_Body):
    """A thread to make."""

    thread_id: Id | None = None
    """Absent makes a new id."""
    metadata: JsonObject | None = None
    """Kept with it."""
    if_exists: IfExists | None = None
    """What to do when there is one of that id; `raise` when absent."""
    supersteps: list[JsonObject] | None = None
    """States to begin with: `[{"updates": [{"values", "as_node"}]}]`."""


class ThreadPatch(_Body):
    """What to change of a thread."""

    metadata: JsonObject | None = None
    """Merged with what is there."""


class ThreadSearch(_Body):
    """Which threads to find."""

    ids: list[Id] | None = None
    """Of these."""
    metadata: JsonObject | None = None
    """With at least this."""
    values: JsonObject | None = None
    """With at least this in their state."""
    status: ThreadStatus | None = None
    """In this state."""
    limit: Limit = 10
    """Most threads of an answer."""
    offset: Offset = 0
    """How many to leave out first."""
    sort_by: (
        Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None
    ) = None
    """`updated_at` when absent."""
    sort_order: SortOrder | None = None
    """`desc` when absent."""
    select: list[str] | None = None
    """Fields to answer with; all when absent."""
    extract: Annotated[dict[str, str], Field(max_length=10)] | None = None
    """Values to pick out, by name: `{"last": "values.messages[-1].content"}`."""


class ThreadPrune(_Body):
    """What to throw away."""

    thread_ids: Annotated[list[Id], Field(max_length=MAX_LIMIT)]
    """Of these threads."""
    strategy: Literal["delete", "keep_latest"] = "delete"
    """The threads, or their history."""


class StateBody(_Body):
    """A change of a thread's state."""

    values: Any = None
    """What to write; null writes nothing."""
    as_node: str | None = None
    """The node that is to have written it."""
    checkpoint: CheckpointBody | None = None
    """The state to change; the newest when absent."""
    checkpoint_id: Id | None = None
    """The same, shorter."""


class StateQuery(_Body):
    """The state to tell."""

    checkpoint: CheckpointBody | None = None
    """The newest when absent."""
    subgraphs: bool = False
    """Whether to tell what is inside of nodes, too."""


class HistoryBody(_Body):
    """The states to tell."""

    limit: Limit = 10
    """Most states of an answer."""
    before: Id | CheckpointBody | JsonObject | None = None
    """Only those before this one."""
    metadata: JsonObject | None = None
    """Only those with at least this."""
    checkpoint: CheckpointBody | None = None
    """Only this one and those before it."""


class AssistantBody(_Body):
    """An assistant to make."""

    assistant_id: Id | None = None
    """Absent makes a new id."""
    graph_id: str
    """`agent`."""
    config: JsonObject | None = None
    """What its runs choose, unless they say otherwise."""
    context: JsonObject | None = None
    """The same as `config.configurable`."""
    metadata: JsonObject | None = None
    """Kept with it."""
    if_exists: IfExists | None = None
    """What to do when there is one of that id; `raise` when absent."""
    name: Annotated[str, Field(max_length=256)] | None = None
    """For people."""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """For people."""


class AssistantPatch(_Body):
    """What to change of an assistant; each change makes a new version."""

    graph_id: str | None = None
    """`agent`."""
    config: JsonObject | None = None
    """In place of the old one."""
    context: JsonObject | None = None
    """In place of the old one."""
    metadata: JsonObject | None = None
    """Merged with what is there."""
    name: Annotated[str, Field(max_length=256)] | None = None
    """For people."""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """For people."""


class AssistantSearch(_Body):
    """Which assistants to find."""

    metadata: JsonObject | None = None
    """With at least this."""
    graph_id: str | None = None
    """Of this graph."""
    name: str | None = None
    """With this in their name, in any case."""
    limit: Limit = 10
    """Most assistants of an answer."""
    offset: Offset = 0
    """How many to leave out first."""
    sort_by: Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"] | None = None
    """`created_at` when absent."""
    sort_order: SortOrder | None = None
    """`desc` when absent."""
    select: list[str] | None = None
    """Fields to answer with; all when absent."""


class VersionsBody(_Body):
    """Which versions to tell."""

    metadata: JsonObject | None = None
    """With at least this."""
    limit: Limit = 10
    """Most versions of an answer."""
    offset: Offset = 0
    """How many to leave out first."""


class LatestBody(_Body):
    """Which version is to hold."""

    version: int
    """Its number."""


class CancelBody(_Body):
    """Which runs to cancel."""

    thread_id: Id | None = None
    """Of this thread."""
    run_ids: list[Id] | None = None
    """Of these."""
    status: Literal["pending", "running", "all"] | None = None
    """In this state."""
