"""Which replica opened an MCP session: its name stands in the session's id. Knows that header.

The client keeps the id and sends it along, so that every door can tell, and none has to remember. A
replica gets the id as it made it. Where the replica is gone, another answers that it knows no such
session, and the client opens a new one, as the protocol has it.
"""

from __future__ import annotations

from dataclasses import replace

from qwenkit.cluster.ask import Ask, Head, Headers

SESSION = b"mcp-session-id"
_MARK = b"."


def of_replica(ask: Ask) -> tuple[str | None, Ask]:
    """The replica of a request's session, and the request as that replica knows it."""
    given = dict(ask.headers).get(SESSION, b"")
    own, mark, replica = given.rpartition(_MARK)
    if not mark:
        return None, ask
    return replica.decode("latin-1"), replace(ask, headers=_with(ask.headers, own))


def with_replica(head: Head, replica: str) -> Head:
    """The beginning of an answer with the replica's name in the session's id, if it has one."""
    own = dict(head.headers).get(SESSION)
    if own is None:
        return head
    return replace(head, headers=_with(head.headers, own + _MARK + replica.encode()))


def _with(headers: Headers, session: bytes) -> Headers:
    return tuple((name, session if name == SESSION else value) for name, value in headers)
