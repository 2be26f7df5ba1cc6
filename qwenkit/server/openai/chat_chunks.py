"""Turns chat events into the chunks of a streamed answer. Pure, and quick: it runs for every token.

A chunk's beginning never changes, so it is encoded once; a token then costs one string.
"""

from __future__ import annotations

from typing import Any

from qwenkit.chat.events import (
    ChatDone,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    Delta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from qwenkit.engine.request import Logprobs
from qwenkit.mcp.rounds import RoundEvent, ToolEnded, ToolStarted
from qwenkit.server.openai.chat_answer import logprobs_json
from qwenkit.server.openai.mcp_tools import call_json, done_json
from qwenkit.server.openai.wire import Envelope, timings_json, to_json, usage_json


class ChatChunks:
    """Encodes one answer's events as server-sent events.

    Args:
        envelope: What every chunk repeats.
        n: Choices of the answer.
        with_usage: End with a chunk that has the token counts.
    """

    def __init__(self, envelope: Envelope, *, n: int, with_usage: bool) -> None:
        self._head = "data: " + to_json(envelope.fields())[:-1]
        self._tail = ',"usage":null}\n\n' if with_usage else "}\n\n"
        self._n = n
        self._with_usage = with_usage
        self._last = ""

    def encode(self, event: RoundEvent) -> bytes:
        """The chunks that an event means; often one, sometimes none."""
        match event:
            case ChoiceDelta(choice, deltas, logprobs):
                return self._deltas(choice, deltas, logprobs).encode()
            case ChatStarted():
                opening = '{"role":"assistant","content":""}'
                return "".join(self._chunk(i, opening) for i in range(self._n)).encode()
            case ChoiceDone(choice, finish):
                # Held back: the last one carries the timings, which are known only then.
                before, self._last = self._last, self._chunk(choice, "{}", finish=f'"{finish}"')
                return before.encode()
            case ToolStarted():
                return self._told("mcp_calls", [call_json(event)]).encode()
            case ToolEnded():
                return self._told("mcp_calls", [done_json(event)]).encode()
            case ChatDone():
                return self._end(event).encode()

    def encode_unavailable(self, servers: list[dict[str, Any]]) -> bytes:
        """The chunk that says which MCP servers could not be used."""
        return self._told("mcp_unavailable", servers).encode()

    def _told(self, field: str, value: list[dict[str, Any]]) -> str:
        return self._chunk(0, f'{{"{field}":{to_json(value)}}}')

    def _deltas(self, choice: int, deltas: tuple[Delta, ...], logprobs: Logprobs | None) -> str:
        told = "null" if logprobs is None else to_json(logprobs_json([logprobs]))
        if not deltas:
            return self._chunk(choice, '{"content":""}', logprobs=told) if logprobs else ""
        chunks = [self._chunk(choice, _delta(deltas[0]), logprobs=told)]
        chunks += [self._chunk(choice, _delta(delta)) for delta in deltas[1:]]
        return "".join(chunks)

    def _chunk(
        self, choice: int, delta: str, *, logprobs: str = "null", finish: str = "null"
    ) -> str:
        return (
            f'{self._head},"choices":[{{"index":{choice},"delta":{delta},'
            f'"logprobs":{logprobs},"finish_reason":{finish}}}]{self._tail}'
        )

    def _end(self, done: ChatDone) -> str:
        timings = f',"timings":{to_json(timings_json(done.usage, done.timings))}}}\n\n'
        if not self._with_usage:
            return self._last.removesuffix(self._tail) + timings
        usage = f',"choices":[],"usage":{to_json(usage_json(done.usage))}'
        return self._last + self._head + usage + timings


def _delta(delta: Delta) -> str:
    match delta:
        case TextDelta(text):
            return f'{{"content":{to_json(text)}}}'
        case ReasoningDelta(text):
            quoted = to_json(text)
            return f'{{"reasoning_content":{quoted},"reasoning":{quoted}}}'
        case ToolCallDelta(index, arguments):
            function = f'{{"arguments":{to_json(arguments)}}}'
            return f'{{"tool_calls":[{{"index":{index},"function":{function}}}]}}'
        case ToolCallStarted(index, call_id, name):
            call = to_json({"id": call_id, "type": "function"})[1:-1]
            function = f'{{"name":{to_json(name)},"arguments":""}}'
            return f'{{"tool_calls":[{{"index":{index},{call},"function":{function}}}]}}'
