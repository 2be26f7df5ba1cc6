"""How a server is doing, as it is told to people and programs. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwenkit.mcp.client.tools import McpTool

State: TypeAlias = Literal["connected", "connecting", "failed", "disabled"]
Origin: TypeAlias = Literal["config", "added"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """One server, now.

    Args:
        name: As the configuration calls it.
        kind: How it is reached: `stdio`, `http` or `sse`.
        where: Its command or its URL, without secrets.
        origin: Whether the operator's file names it, or an admin added it.
        state: `connected`, `connecting`, `failed` (it is tried again) or `disabled`.
        reason: Why it failed; empty otherwise.
        last_words: The last line of a program that failed; whoever may not see logs may not see it.
        since: Unix time of the last change of state.
        software: Name and version that the server gives itself; empty when it gives none.
        protocol: Version of MCP that is spoken; empty when not connected.
        tools: What it offers now, or offered last.
    """

    name: str
    kind: Literal["stdio", "http", "sse"]
    where: str
    origin: Origin
    state: State
    reason: str = ""
    last_words: str = ""
    since: float = 0.0
    software: str = ""
    protocol: str = ""
    tools: tuple[McpTool, ...] = ()

    @property
    def explained(self) -> str:
        """Why it failed, in its own words too."""
        return f"{self.reason}; it said: {self.last_words}" if self.last_words else self.reason
