"""Which replica gave which response, so that what goes on from one finds it computed.

A request with `previous_response_id` does not repeat the conversation; only whoever saw the id come
by knows where that is in a KV cache. Knows how an answer of `/v1/responses` begins. What is not
known costs time and no answer.
"""

from __future__ import annotations

import re
from collections import OrderedDict

MAX_RESPONSES = 100_000
"""Responses that are remembered; the oldest are forgotten."""
MAX_LOOKED_AT = 4096
"""Bytes of an answer among which its id is."""
_ID = re.compile(rb'"id"\s*:\s*"(resp_[\w-]+)"')


class Followed:
    """Where responses were written."""

    def __init__(self) -> None:
        self._replicas: OrderedDict[str, str] = OrderedDict()

    def learn(self, content: bytes, replica: str) -> None:
        """A replica's answer begins like this."""
        found = _ID.search(content[:MAX_LOOKED_AT])
        if found is None:
            return
        self._replicas[found[1].decode("ascii")] = replica
        while len(self._replicas) > MAX_RESPONSES:
            self._replicas.popitem(last=False)

    def replica(self, response_id: str) -> str | None:
        """The replica that wrote a response, where that is known."""
        return self._replicas.get(response_id)
