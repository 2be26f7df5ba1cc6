"""Sums an answer's events up for the MCP server, and tells how far it is."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from qwenkit.chat.events import ChatEvent, ChoiceDelta, ReasoningDelta
from qwenkit.chat.result import collect
from qwenkit.mcp.server.offer import OnTokens, Reply

TELL_EVERY_S = 1.0
"""Clients end a call that they hear nothing of; most wait for a minute."""


async def reply_of(
    events: AsyncGenerator[ChatEvent],
    model: str,
    on_tokens: OnTokens,
    *,
    tell_every_s: float = TELL_EVERY_S,
) -> Reply:
    """The whole answer of a stream; closes the stream if cancelled.

    Args:
        events: The stream.
        model: Who answers.
        on_tokens: Told how far it is.
        tell_every_s: Seconds between two times.
    """
    async with aclosing(events):
        result = await collect(_told(events, on_tokens, tell_every_s))
    choice = result.choices[0]
    return Reply(
        text=choice.text,
        reasoning=choice.reasoning,
        model=model,
        finish=choice.finish.value,
        n_prompt=result.usage.n_prompt,
        n_completion=result.usage.n_completion,
    )


async def _told(
    events: AsyncGenerator[ChatEvent], on_tokens: OnTokens, tell_every_s: float
) -> AsyncGenerator[ChatEvent]:
    n_pieces, told_at = 0, time.monotonic()
    async for event in events:
        if isinstance(event, ChoiceDelta) and event.deltas:
            n_pieces += 1
            if time.monotonic() - told_at >= tell_every_s:
                told_at = time.monotonic()
                await on_tokens(n_pieces, isinstance(event.deltas[-1], ReasoningDelta))
        yield event
