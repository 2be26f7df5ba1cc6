"""A request and its answer, as they are measured and logged: no content, no key. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a request came to.

    Args:
        method: Its method.
        route: The route's pattern; `other` where no route was found.
        status: The answer's HTTP status; 499 where the client had gone before.
        seconds: From the request to the end of the answer.
        n_received: Bytes of the request's body that were read.
        n_sent: Bytes of the answer's body.
        client: The address it came from; empty where that is not known.
    """

    method: str
    route: str
    status: int
    seconds: float
    n_received: int
    n_sent: int
    client: str
