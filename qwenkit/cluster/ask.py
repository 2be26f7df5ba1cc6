"""What the door and a replica tell each other. Plain values that pickle; no Ray and no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from qwenkit.cluster.affinity import Affinity

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which replica is to get a call.

    Args:
        only: The one that must get it; another that gets it says so and does nothing.
        avoid: Those that should not, as long as there are others.
        prefers: The one that has what it goes on from in its KV cache.
        home: Whether it belongs to the replica that holds the agent.
        affinity: What it shares with earlier requests.
    """

    only: str | None = None
    avoid: frozenset[str] = frozenset()
    prefers: str | None = None
    home: bool = False
    affinity: Affinity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """An HTTP request, read whole.

    Args:
        target: Which replica is to answer.
        method: Its method.
        path: Its path, decoded.
        raw_path: Its path as it came.
        query: What stands behind the question mark.
        headers: Names in lower case, and values.
        body: Its body.
        scheme: `http` or `https`.
        client: Address and port of whoever sent it, where known.
    """

    target: Target = field(default_factory=Target)
    method: str
    path: str
    raw_path: bytes
    query: bytes = b""
    headers: Headers = ()
    body: bytes = b""
    scheme: str = "http"
    client: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The first message of every answer: the replica has the request.

    Args:
        replica: Which it is.
        is_meant: False where the request is for another one; nothing follows then.
    """

    replica: str
    is_meant: bool = True


@dataclass(frozen=True, slots=True)
class Head:
    """How an answer begins."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Body:
    """The next bytes of an answer."""

    content: bytes


Part: TypeAlias = Head | Body
Message: TypeAlias = Accepted | Part
