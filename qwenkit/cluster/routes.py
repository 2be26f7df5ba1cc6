"""What kinds of request there are: who answers each. Knows methods and paths; nothing of bodies.

| kind | goes to |
|---|---|
| ANY | the replica that suits it best; another where that one can't |
| HOME | the one replica that holds the agent's threads |
| SESSION | the replica that opened the MCP session |
| EACH | all replicas, one after the other: it changes what is served |
| GATHER | all replicas at once: their answers become one, or the best of them counts |
"""

from __future__ import annotations

import re
from enum import Enum, auto

AGENT = "/agent"
MCP = "/mcp"
METRICS = "/metrics"
RESPONSES = "/v1/responses"
STATUS = "/admin/status"
_CHANGES = re.compile(
    r"POST /admin/(?:reload|adapters|mcp/servers|mcp/servers/.+/test)"
    r"|DELETE /admin/(?:adapters|mcp/servers)/.+"
    r"|POST /v1/(?:un)?load_lora_adapter"
)


class Kind(Enum):
    """Who answers a request."""

    ANY = auto()
    HOME = auto()
    SESSION = auto()
    EACH = auto()
    GATHER = auto()


def kind_of(method: str, path: str) -> Kind:
    """Who answers a request."""
    if _CHANGES.fullmatch(f"{method} {path}"):
        return Kind.EACH
    if path in (METRICS, STATUS) and method == "GET":
        return Kind.GATHER
    if path.startswith(f"{RESPONSES}/") and method == "DELETE":
        return Kind.GATHER  # besides the shared store, one replica may have its events
    if path == MCP:
        return Kind.SESSION
    if path.startswith(f"{AGENT}/"):
        return Kind.HOME
    return Kind.ANY


def may_be_elsewhere(method: str, path: str, status: int) -> bool:
    """Whether another replica may have what one answers with this status: room, or an id."""
    # A response's events are only where it was written; others have the response and say 400.
    is_of_a_response = method == "GET" and path.startswith(f"{RESPONSES}/")
    return status in (404, 503) or (status == 400 and is_of_a_response)


def may_repeat(method: str, path: str) -> bool:
    """Whether a request whose answer was lost may be made once more without being asked to."""
    return method in ("GET", "HEAD", "OPTIONS") or not path.startswith("/v1/feedback")
