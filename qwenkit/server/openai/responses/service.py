"""Whose responses there are, and what they go on from. Knows callers and the store; no HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from qwenkit.errors import InvalidRequest, LogUnreadable
from qwenkit.server.auth import Caller
from qwenkit.server.errors import NotThere, PreviousResponseNotFound
from qwenkit.server.openai.responses.background import Background
from qwenkit.server.openai.responses.kept import KeptResponse
from qwenkit.server.openai.responses.store import ResponseStore

logger = logging.getLogger(__name__)

MAX_REFERENCES = 1000
"""Items that one request may refer to."""
_REFERENCE = "item_reference"


class Responses:
    """The responses of one server.

    A caller sees what was made with the same key; an admin sees everything. What is another's is
    not there.

    Args:
        store: Keeps them; None keeps nothing.
    """

    def __init__(self, store: ResponseStore | None) -> None:
        self._store = store
        self.background = Background(self.keep)

    def wants(self, store: bool | None) -> bool:
        """Whether a response is kept whose request says `store`; None says nothing.

        Raises:
            InvalidRequest: It can't be.
        """
        if store and self._store is None:
            raise InvalidRequest(
                "responses are not kept here",
                param="store",
                hint="send store: false, or serve with RESPONSES_STORE of disk or memory",
            )
        return self._store is not None and store is not False

    async def find(self, response_id: str, caller: Caller) -> KeptResponse:
        """A response that is kept.

        Raises:
            NotThere: There is none for this caller.
        """
        found: KeptResponse | None = None
        if self._store is not None:
            found = await asyncio.to_thread(self._store.get, response_id)
        if found is None or not caller.may_see(found.owner):
            raise NotThere(f"no response {response_id!r} is kept", param="response_id")
        return found

    async def conversation(self, response_id: str, caller: Caller) -> list[KeptResponse]:
        """The responses up to one that is gone on from, oldest first.

        Raises:
            PreviousResponseNotFound: Some of it is not there for this caller.
            InvalidRequest: It is still being written.
        """
        run = self.background.running(response_id)
        if run is not None and caller.may_see(run.owner):
            raise InvalidRequest(
                f"the response {response_id!r} is still being written", param="previous_response_id"
            )
        chain: list[KeptResponse] | None = None
        if self._store is not None:
            chain = await asyncio.to_thread(self._store.chain, response_id)
        if chain is None or not all(caller.may_see(each.owner) for each in chain):
            raise PreviousResponseNotFound(
                f"the response {response_id!r}, or one before it, is not kept",
                param="previous_response_id",
                hint="send the conversation as input",
            )
        return chain

    async def resolved(
        self, items: Sequence[Mapping[str, Any]], caller: Caller
    ) -> list[Mapping[str, Any]]:
        """Items, with those that are kept here in place of references to them.

        Raises:
            InvalidRequest: A reference leads nowhere, or there are too many; `param` names it.
        """
        given = [each.get("id") for each in items if each.get("type") == _REFERENCE]
        if len(given) > MAX_REFERENCES:
            raise InvalidRequest(f"input has over {MAX_REFERENCES} references", param="input")
        wanted = {each for each in given if isinstance(each, str)}
        found: Mapping[str, Mapping[str, Any]] = {}
        if wanted and self._store is not None:
            found = await asyncio.to_thread(self._store.items, wanted, caller.may_see)
        return [
            _referred(each, found, f"input[{index}]") if each.get("type") == _REFERENCE else each
            for index, each in enumerate(items)
        ]

    async def keep(self, kept: KeptResponse) -> bool:
        """Keep a response; False where that is not possible, which costs no answer."""
        if self._store is None:
            return False
        try:
            is_kept = await asyncio.to_thread(self._store.put, kept)
        except LogUnreadable as exc:
            logger.warning("a response is not kept: %s", exc)
            return False
        if not is_kept:
            logger.warning("a response is not kept: it is larger than RESPONSES_MAX_MB")
        return is_kept

    async def delete(self, response_id: str) -> None:
        """Keep a response no longer."""
        if self._store is not None:
            await asyncio.to_thread(self._store.delete, response_id)

    async def close(self) -> None:
        """End what is written in the background, and close the store."""
        await self.background.close()
        if self._store is not None:
            await asyncio.to_thread(self._store.close)


def _referred(
    item: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]], place: str
) -> Mapping[str, Any]:
    wanted = item.get("id")
    if not isinstance(wanted, str):
        raise InvalidRequest(f"{place}.id must be a string", param=f"{place}.id")
    if wanted not in found:
        raise InvalidRequest(f"no item {wanted!r} is kept", param=f"{place}.id")
    return found[wanted]
