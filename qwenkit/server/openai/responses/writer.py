"""An answer's events become a response's events, and the response. Pure; runs for every token.

    response.created, response.in_progress
    response.output_item.added ─▶ … ─▶ response.output_item.done       for each item
    response.completed | response.incomplete | response.failed

What a stream tells and what an answer without streaming holds are the same thing: the second is
what the first has come to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from qwenkit.chat.events import (
    ChatDone,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    Delta,
    ReasoningDelta,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwenkit.engine.request import Logprobs
from qwenkit.mcp.rounds import RoundEvent, ToolEnded, ToolStarted
from qwenkit.server.errors import Failure
from qwenkit.server.openai.responses.items import (
    CallItem,
    CustomCallItem,
    Item,
    ItemStatus,
    JsonObject,
    MessageItem,
    ReasoningItem,
    Told,
    ToolName,
)
from qwenkit.server.openai.responses.mcp_items import McpItem, McpListItem
from qwenkit.server.openai.responses.round_texts import RoundTexts
from qwenkit.server.openai.wire import timings_json, to_json

ResponseStatus: TypeAlias = Literal[
    "queued", "in_progress", "completed", "incomplete", "failed", "cancelled"
]
LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event of a response.

    Args:
        number: Counts the response's events from 0.
        type: Its kind.
        data: All that it says.
    """

    number: int
    type: str
    data: JsonObject

    @property
    def is_last(self) -> bool:
        """Whether the response has ended with it."""
        return self.type in LAST

    def encode(self) -> bytes:
        """As it goes over the wire."""
        return f"event: {self.type}\ndata: {to_json(self.data)}\n\n".encode()


@dataclass(slots=True)
class _Written:
    index: int
    item: Item
    status: ItemStatus = "in_progress"


class ResponseWriter:
    """Writes one response.

    Args:
        head: What the response says beside its output and how it ended.
        lists: Tools of MCP servers, told before everything else.
        names: The tools that are not called as the client calls them, by what the model calls them.
        summarised: Give the thinking as its summary, too.
    """

    def __init__(
        self,
        head: Mapping[str, Any],
        *,
        lists: Sequence[McpListItem] = (),
        names: Mapping[str, ToolName] | None = None,
        summarised: bool = False,
    ) -> None:
        self.status: ResponseStatus = "in_progress"
        self._head = dict(head)
        self._lists = lists
        self._names = names or {}
        self._summarised = summarised
        self._written: list[_Written] = []
        self._open: _Written | None = None
        self._calls: dict[int, _Written] = {}
        self._ours: dict[int, _Written] = {}
        self._finish = ChatFinish.STOP
        self._usage: tuple[Usage, Timings] | None = None
        self._error: JsonObject | None = None
        self._logprobs: list[Logprobs] = []
        self._round = RoundTexts()
        self._n_events = 0

    @property
    def has_begun(self) -> bool:
        """Whether anything has been told."""
        return self._n_events > 0

    def follow(self, event: RoundEvent) -> Iterator[StreamEvent]:
        """What an event of the answer tells."""
        match event:
            case ChoiceDelta(_, deltas, logprobs):
                yield from self._deltas(deltas, logprobs)
            case ChatStarted():
                yield from self._start()
            case ToolStarted():
                yield from self._close("completed")
                written = self._ours[event.index] = self._add(McpItem(event))
                yield from self._tell(written, written.item.opening())
            case ToolEnded(started):
                yield from self._end_tool(started.index, event)
            case ChoiceDone(_, finish):
                self._finish = finish
                is_cut = finish is ChatFinish.LENGTH
                yield from self._close("incomplete" if is_cut else "completed")
            case ChatDone(usage, timings):
                self._usage = usage, timings
                yield self._end("incomplete" if self._finish is ChatFinish.LENGTH else "completed")

    def queue(self) -> Iterator[StreamEvent]:
        """That the response waits for its turn, where a client asks for it later."""
        self.status = "queued"
        yield self._response_event("response.created")
        yield self._response_event("response.queued")

    def fail(self, failure: Failure) -> Iterator[StreamEvent]:
        """That the answer was cut off by an error."""
        if not self.has_begun:
            yield self._response_event("response.created")
        self._error = {"code": "server_error", "message": failure.message}
        self._cut()
        yield self._end("failed")

    def cancel(self) -> None:
        """Take note that the answer was cut off on demand."""
        self._cut()
        self.status = "cancelled"

    def response(self) -> JsonObject:
        """The response as it is now."""
        is_incomplete = self.status == "incomplete"
        ended = {
            "status": self.status,
            "error": self._error,
            "incomplete_details": {"reason": "max_output_tokens"} if is_incomplete else None,
            "output": [each.item.json(each.status) for each in self._written],
            "usage": None,
        }
        if self._usage is not None:
            ended |= {
                "usage": _usage_json(self._usage[0]),
                "timings": timings_json(*self._usage),
            }
        return self._head | ended

    def _start(self) -> Iterator[StreamEvent]:
        self.status = "in_progress"
        if not self.has_begun:
            yield self._response_event("response.created")
        yield self._response_event("response.in_progress")
        for each in self._lists:
            written = self._add(each)
            yield from self._tell(written, each.opening())
            written.status = "completed"
            yield from self._tell(written, each.closing("completed"))

    def _deltas(self, deltas: Sequence[Delta], logprobs: Logprobs | None) -> Iterator[StreamEvent]:
        if logprobs is not None:
            self._logprobs.append(logprobs)
        for delta in deltas:
            match delta:
                case TextDelta(text):
                    yield from self._text(self._round.own("text", text))
                case ReasoningDelta(text):
                    yield from self._reasoning(self._round.own("reasoning", text))
                case ToolCallStarted(index, call_id, name):
                    yield from self._close("completed")
                    call = self._calls[index] = self._begin_call(call_id, name)
                    yield from self._tell(call, call.item.opening())
                case ToolCallDelta(index, arguments):
                    call = self._calls[index]
                    if isinstance(call.item, CallItem | CustomCallItem):
                        yield from self._tell(call, call.item.feed(arguments))

    def _text(self, text: str) -> Iterator[StreamEvent]:
        if not text:
            return
        if self._open is None or not isinstance(self._open.item, MessageItem):
            yield from self._close("completed")
            yield from self._opened(MessageItem())
        logprobs, self._logprobs = self._logprobs, []
        if self._open is not None and isinstance(self._open.item, MessageItem):
            yield from self._tell(self._open, self._open.item.feed(text, logprobs))

    def _reasoning(self, text: str) -> Iterator[StreamEvent]:
        if not text:
            return
        if self._open is None or not isinstance(self._open.item, ReasoningItem):
            yield from self._close("completed")
            yield from self._opened(ReasoningItem(summarised=self._summarised))
        if self._open is not None and isinstance(self._open.item, ReasoningItem):
            yield from self._tell(self._open, self._open.item.feed(text))

    def _begin_call(self, call_id: str, name: str) -> _Written:
        tool = self._names.get(name, ToolName(name))
        item = CustomCallItem(call_id, tool) if tool.custom else CallItem(call_id, tool)
        self._open = self._add(item)
        return self._open

    def _opened(self, item: Item) -> Iterator[StreamEvent]:
        self._open = self._add(item)
        yield from self._tell(self._open, item.opening())

    def _close(self, status: ItemStatus) -> Iterator[StreamEvent]:
        written, self._open = self._open, None
        if written is not None:
            written.status = status
            yield from self._tell(written, written.item.closing(status))

    def _end_tool(self, index: int, ended: ToolEnded) -> Iterator[StreamEvent]:
        written = self._ours[index]
        if isinstance(written.item, McpItem):
            written.item.end(ended)
        written.status = "completed"
        self._round.end()
        yield from self._tell(written, written.item.closing("completed"))

    def _cut(self) -> None:
        for each in self._written:
            if each.status == "in_progress":
                each.status = "incomplete"

    def _end(self, status: ResponseStatus) -> StreamEvent:
        self.status = status
        return self._response_event(f"response.{status}")

    def _add(self, item: Item) -> _Written:
        written = _Written(len(self._written), item)
        self._written.append(written)
        return written

    def _tell(self, written: _Written, told: Iterator[Told]) -> Iterator[StreamEvent]:
        for name, fields in told:
            place: JsonObject = {"output_index": written.index}
            if "item" not in fields:
                place["item_id"] = written.item.id
            yield self._event(f"response.{name}", place | fields)

    def _response_event(self, name: str) -> StreamEvent:
        return self._event(name, {"response": self.response()})

    def _event(self, name: str, fields: JsonObject) -> StreamEvent:
        number = self._n_events
        self._n_events += 1
        return StreamEvent(number, name, {"type": name, "sequence_number": number, **fields})


def _usage_json(usage: Usage) -> JsonObject:
    """Token counts as the Responses API spells them."""
    return {
        "input_tokens": usage.n_prompt,
        "input_tokens_details": {"cached_tokens": usage.n_cached, "cache_write_tokens": 0},
        "output_tokens": usage.n_completion,
        "output_tokens_details": {"reasoning_tokens": usage.n_reasoning},
        "total_tokens": usage.n_total,
    }
