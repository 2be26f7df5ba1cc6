"""Runs the graph once and tells what happens in the protocol's events. Knows LangGraph's streams.

| asked for | told as |
|---|---|
| values, updates, custom, debug, tasks, checkpoints | an event of that name |
| messages-tuple | `messages`: `[message or chunk, metadata]` |
| messages | `messages/metadata`, `messages/partial`, `messages/complete` |
| events | `events`: LangChain's own |

Inside of a subgraph the name ends with `|` and its namespace.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from qwenkit.server.agent.encode import jsonable
from qwenkit.server.openai.wire import to_json

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.runnables import RunnableConfig

    from qwenkit.agent.graph import Agent

PASSED_ON = ("values", "updates", "custom", "debug", "tasks", "checkpoints")
_METADATA = (
    "langgraph_node",
    "langgraph_step",
    "langgraph_triggers",
    "langgraph_path",
    "langgraph_checkpoint_ns",
    "checkpoint_ns",
    "thread_id",
    "run_id",
    "assistant_id",
    "graph_id",
    "tags",
)

Part = tuple[tuple[str, ...], str, Any]
Write = Callable[[str, str], None]
OnValues = Callable[[dict[str, Any]], Awaitable[None]]


class GraphStream:
    """One run of the graph.

    Args:
        graph: Runs.
        modes: What is asked for.
        subgraphs: Whether to tell what happens inside of nodes, too.
        write: Takes the name and the data of each event.
        on_values: Takes every state of the thread.
    """

    def __init__(
        self,
        graph: Agent,
        *,
        modes: frozenset[str],
        subgraphs: bool,
        write: Write,
        on_values: OnValues,
    ) -> None:
        self._graph = graph
        self._modes = modes
        self._subgraphs = subgraphs
        self._write = write
        self._on_values = on_values
        self._chunks: list[AIMessageChunk] = []
        self._told: dict[str, Any] = {}

    async def run(self, given: Any, config: RunnableConfig, **options: Any) -> None:
        """Run it to its end, or to where it waits.

        Args:
            given: The input, a `Command`, or None to go on.
            config: With thread and run.
            options: More for LangGraph's `astream`.
        """
        modes = [*{"values", "messages"} | (self._modes & set(PASSED_ON))]
        options = {**options, "stream_mode": modes, "subgraphs": True}
        parts = self._with_events if "events" in self._modes else self._plain
        async with aclosing(parts(given, config, options)) as stream:
            async for namespace, mode, data in stream:
                await self._tell(namespace, mode, data)

    def partial_answer(self) -> AIMessage | None:
        """What the model had written when the run was cut off, if anything; its calls don't count.

        Returns:
            A message of the same id as the chunks that were streamed.
        """
        if not self._chunks:
            return None
        from langchain_core.messages import AIMessage

        whole = self._chunks[0]
        for chunk in self._chunks[1:]:
            whole = whole + chunk
        if not whole.content and not whole.additional_kwargs:
            return None
        return AIMessage(
            content=whole.content,
            additional_kwargs=whole.additional_kwargs,
            response_metadata={"finish_reason": "cancelled"},
            id=whole.id,
        )

    async def _plain(
        self, given: Any, config: RunnableConfig, options: Mapping[str, Any]
    ) -> AsyncGenerator[Part, None]:
        stream: Any = self._graph.astream(given, config, **options)
        async with aclosing(stream):
            async for part in stream:
                yield part

    async def _with_events(
        self, given: Any, config: RunnableConfig, options: Mapping[str, Any]
    ) -> AsyncGenerator[Part, None]:
        stream: Any = self._graph.astream_events(given, config, version="v2", **options)
        own_run = str(config.get("run_id"))
        async with aclosing(stream):
            async for event in stream:
                if event["event"] == "on_chain_stream" and event["run_id"] == own_run:
                    yield event["data"]["chunk"]
                else:
                    self._emit("events", event)

    async def _tell(self, namespace: tuple[str, ...], mode: str, data: Any) -> None:
        if mode == "values" and not namespace:
            self._chunks = []
            await self._on_values(jsonable(data))
        if mode == "messages" and not namespace:
            self._remember(data[0])
        if namespace and not self._subgraphs:
            return
        suffix = "".join(f"|{step}" for step in namespace)
        if mode == "messages":
            self._tell_message(data[0], data[1], suffix)
        elif mode in self._modes:
            self._emit(mode + suffix, _with_checkpoints(mode, data))

    def _remember(self, message: Any) -> None:
        if message.type != "AIMessageChunk":
            return
        if self._chunks and self._chunks[-1].id != message.id:
            self._chunks = []
        self._chunks.append(message)

    def _tell_message(self, message: Any, metadata: Mapping[str, Any], suffix: str) -> None:
        about = {name: metadata[name] for name in _METADATA if name in metadata}
        if "messages-tuple" in self._modes:
            self._emit(f"messages{suffix}", [message, about])
        if "messages" in self._modes:
            self._tell_whole(message, about, suffix)

    def _tell_whole(self, message: Any, about: Mapping[str, Any], suffix: str) -> None:
        if message.id not in self._told:
            self._emit(f"messages/metadata{suffix}", {message.id: {"metadata": about}})
        if message.type != "AIMessageChunk":
            self._told[message.id] = message
            self._emit(f"messages/complete{suffix}", [message])
            return
        before = self._told.get(message.id)
        whole = message if before is None else before + message
        self._told[message.id] = whole
        ended = message.chunk_position == "last"
        said = {**whole.model_dump(), "type": "ai"}
        self._emit(f"messages/{'complete' if ended else 'partial'}{suffix}", [said])

    def _emit(self, name: str, data: Any) -> None:
        self._write(name, to_json(jsonable(data)))


def _with_checkpoints(mode: str, data: Any) -> Any:
    """Debug's checkpoints name their places as clients look for them."""
    if mode == "debug" and data.get("type") == "checkpoint":
        return {**data, "payload": _placed(data["payload"])}
    return _placed(data) if mode == "checkpoints" else data


def _placed(payload: Mapping[str, Any]) -> dict[str, Any]:
    parent = payload.get("parent_config") or {}
    return {
        **payload,
        "checkpoint": (payload.get("config") or {}).get("configurable"),
        "parent_checkpoint": parent.get("configurable"),
    }
