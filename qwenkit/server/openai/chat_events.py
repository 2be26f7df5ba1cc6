"""An answer's events, whichever API asked for it: one round, or several with tools of MCP servers.

What is answered is taken down on the way (`chat_record.py`). Knows no bodies and no HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from qwenkit.chat.completion import ChatModel, ChatOptions, OnPrepared, stream_chat
from qwenkit.chat.events import ChatEvent
from qwenkit.mcp.client import McpConnections, ToolResult
from qwenkit.mcp.client.results import cut
from qwenkit.mcp.rounds import RoundEvent, stream_rounds
from qwenkit.server.openai.chat_record import ChatRecord
from qwenkit.server.openai.mcp_tools import ChosenTools


def answer_events(
    model: ChatModel,
    messages: Sequence[Mapping[str, Any]],
    options: ChatOptions,
    chosen: ChosenTools,
    connections: McpConnections,
    record: ChatRecord,
    *,
    max_calls: int | None = None,
) -> AsyncGenerator[RoundEvent]:
    """The events of an answer; closing them cancels it.

    Args:
        messages: In OpenAI's form.
        chosen: The tools on offer; those of ours are called here.
        max_calls: Calls of ours after which the model must answer with what it has.

    Raises:
        QwenkitError: As `stream_chat` does.
    """
    if not chosen.ours:
        return record.answer(partial(_answer, model, messages, chosen.functions, options))

    def ask(
        messages: Sequence[Mapping[str, Any]], *, first: bool, last: bool, n_spent: int
    ) -> AsyncGenerator[ChatEvent]:
        now = options if first else _later(options, n_spent)
        if last:
            now = replace(now, tool_choice="none")
        return record.round(partial(_answer, model, messages, chosen.functions, now))

    # A result that fills the context would leave no room for the answer to it.
    most = model.engine.capabilities.n_ctx // 2

    async def call(name: str, arguments: Mapping[str, Any]) -> ToolResult:
        result = await connections.call(name, arguments)
        return replace(result, text=cut(result.text, most))

    rounds = stream_rounds(
        ask,
        messages,
        chosen.ours,
        call,
        max_tokens=options.max_tokens,
        max_calls=max_calls,
    )
    return record.rounds(rounds)


def _answer(
    model: ChatModel,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    options: ChatOptions,
    on_prepared: OnPrepared | None,
) -> AsyncGenerator[ChatEvent]:
    return stream_chat(model, messages, tools, options, on_prepared=on_prepared)


def _later(options: ChatOptions, n_spent: int) -> ChatOptions:
    """What holds after the first round: a call that was required has been made."""
    most = options.max_tokens
    return replace(
        options,
        tool_choice="none" if options.tool_choice == "none" else "auto",
        max_tokens=None if most is None else most - n_spent,
        continue_final_message=False,
    )
