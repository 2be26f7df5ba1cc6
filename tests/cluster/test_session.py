"""The replica's name in an MCP session's id."""

from __future__ import annotations

from qwenkit.cluster.ask import Ask, Head
from qwenkit.cluster.session import SESSION, of_replica, with_replica


def ask(*headers: tuple[bytes, bytes]) -> Ask:
    return Ask(method="POST", path="/mcp", raw_path=b"/mcp", headers=headers)


def test_a_session_leads_back_to_its_replica_under_the_id_that_this_one_gave() -> None:
    given = dict(with_replica(Head(200, ((SESSION, b"a.b"),)), "r1").headers)[SESSION]
    replica, asked = of_replica(ask((b"accept", b"x"), (SESSION, given)))
    assert replica == "r1"
    assert asked.headers == ((b"accept", b"x"), (SESSION, b"a.b"))


def test_a_request_without_a_session_is_left_alone() -> None:
    plain = ask((b"accept", b"x"))
    assert of_replica(plain) == (None, plain)
    head = Head(200, ((b"content-type", b"x"),))
    assert with_replica(head, "r1") == head
