"""Leaves out the oldest turns of a conversation that does not fit. Knows counts, no tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

Messages = Sequence[Mapping[str, Any]]


async def n_left_out(
    messages: Messages, count: Callable[[Messages], Awaitable[int]], *, most: int
) -> int:
    """The fewest messages, behind the system's at the front, without which the rest fits.

    Whole turns are left out: what a user said, and all that followed. The last one stays.

    Args:
        count: Tokens of a conversation.
        most: Tokens that it may have.
    """
    n_system = n_leading_system(messages)
    begins = [
        index
        for index, message in enumerate(messages)
        if index > n_system and message["role"] == "user"
    ]
    cuts = [0, *(index - n_system for index in begins)]
    low, high = 0, len(cuts) - 1
    while low < high:
        middle = (low + high) // 2
        n_tokens = await count([*messages[:n_system], *messages[n_system + cuts[middle] :]])
        if n_tokens <= most:
            high = middle
        else:
            low = middle + 1
    return cuts[low]


def n_leading_system(messages: Messages) -> int:
    """How many messages of the system stand at the front."""
    for index, message in enumerate(messages):
        if message["role"] != "system":
            return index
    return len(messages)
