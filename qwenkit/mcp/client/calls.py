"""A call of a server's tool that is over, for those who count. Pure data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class McpCall:
    """What became of a call.

    Args:
        server: The server's name.
        tool: What the model calls the tool.
        outcome: `error` where the server said so or could not be asked.
        seconds: How long it took.
    """

    server: str
    tool: str
    outcome: Literal["success", "error", "cancelled"]
    seconds: float


OnCall: TypeAlias = Callable[[McpCall], None]
