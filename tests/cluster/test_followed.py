"""Where a response was written."""

from __future__ import annotations

import pytest

from qwenkit.cluster import followed
from qwenkit.cluster.followed import MAX_LOOKED_AT, Followed

WHOLE = b'{"id":"resp_a1","object":"response"}'
STREAMED = (
    b'event: response.created\ndata: {"type": "response.created", "response": {"id": "resp_a1",'
    b' "previous_response_id": "resp_b2"}}\n\n'
)


@pytest.mark.parametrize("content", [WHOLE, STREAMED])
def test_an_answer_s_own_id_is_found_and_not_that_of_the_one_before(content: bytes) -> None:
    known = Followed()
    known.learn(content, "a")
    assert known.replica("resp_a1") == "a"
    assert known.replica("resp_b2") is None


@pytest.mark.parametrize("content", [b"", b'{"error": {}}', b" " * MAX_LOOKED_AT + WHOLE])
def test_what_has_no_id_at_its_beginning_teaches_nothing(content: bytes) -> None:
    known = Followed()
    known.learn(content, "a")
    assert known.replica("resp_a1") is None


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "MAX_RESPONSES", 2)
    known = Followed()
    for n in range(3):
        known.learn(b'{"id": "resp_%d"}' % n, "a")
    assert [known.replica(f"resp_{n}") for n in range(3)] == [None, "a", "a"]
