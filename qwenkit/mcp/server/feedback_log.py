"""The log of this machine, or of another server, for the MCP server's tools and documents."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import InvalidRecord, RemoteError
from qwenkit.feedback.datasets.export import iter_rows
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import Page, Query, RatedAnswer
from qwenkit.feedback.records import Interaction, Rating, decode

T = TypeVar("T")
NOT_FOUND = 404


class LookUp(Protocol):
    """Gives a function the index, up to date, on a thread of its own."""

    def __call__(self, find: Callable[[FeedbackIndex], T], /) -> Awaitable[T]:
        """What the function finds."""


class IndexedFeedback:
    """The log that an index is of.

    Args:
        look_up: Gives the index.
    """

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up

    async def search(self, query: Query) -> Page:
        """A page of the answers that a query asks for, newest first."""
        return await self._look_up(lambda index: index.search(query))

    async def answer(self, answer_id: str) -> RatedAnswer | None:
        """One answer."""
        return await self._look_up(lambda index: index.answer(answer_id))

    async def days(self, limit: int) -> tuple[tuple[str, int], ...]:
        """The last days with answers, newest first, and how many there are."""
        return await self._look_up(lambda index: index.days(limit))

    async def rows(self, options: ExportOptions, limit: int) -> tuple[str, ...]:
        """The first rows of a data set, a JSON line each."""
        return await self._look_up(
            lambda index: tuple(row.line() for row in islice(iter_rows(index, options), limit))
        )


@contextmanager
def opened(folder: Path) -> Iterator[LookUp]:
    """The index of a log of this machine, opened when something is first looked up."""
    index: FeedbackIndex | None = None
    opening = threading.Lock()

    def found(find: Callable[[FeedbackIndex], T]) -> T:
        nonlocal index
        with opening:
            index = index or FeedbackIndex(folder)
        index.refresh()
        return find(index)

    async def look_up(find: Callable[[FeedbackIndex], T], /) -> T:
        return await asyncio.to_thread(found, find)

    try:
        yield look_up
    finally:
        if index is not None:
            index.close()


class RemoteFeedback:
    """The log of a qwenkit server; its key must be an admin's.

    Args:
        server: Where it is.
    """

    def __init__(self, server: RemoteServer) -> None:
        self._server = server

    async def search(self, query: Query) -> Page:
        """A page of the answers that a query asks for, newest first."""
        found = await self._server.call("GET", f"/v1/feedback/answers?{_parameters(query)}")
        return Page(tuple(map(_rated, found["data"])), found["next_cursor"])

    async def answer(self, answer_id: str) -> RatedAnswer | None:
        """One answer."""
        try:
            path = f"/v1/feedback/answers/{quote(answer_id, safe='')}"
            return _rated(await self._server.call("GET", path))
        except RemoteError as exc:
            if exc.status == NOT_FOUND:
                return None
            raise

    async def days(self, limit: int) -> tuple[tuple[str, int], ...]:
        """The last days with answers, newest first, and how many there are."""
        days = (await self._server.call("GET", "/v1/feedback/stats"))["days"]
        counted = sorted(((each["day"], each["n_answers"]) for each in days), reverse=True)
        return tuple(counted[:limit])

    async def rows(self, options: ExportOptions, limit: int) -> tuple[str, ...]:
        """The first rows of a data set, a JSON line each."""
        asked = {"format": options.format, "thinking": options.thinking}
        path = f"/v1/feedback/export?{urlencode(asked)}&{_parameters(options.filters, pages=False)}"
        rows: list[str] = []
        async with aclosing(self._server.lines(path)) as lines:
            async for line in lines:
                rows.append(line.decode("utf-8"))
                if len(rows) == limit:
                    break
        return tuple(rows)


def _parameters(query: Query, *, pages: bool = True) -> str:
    left_out = () if pages else ("limit", "cursor")
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in asdict(query).items()
        if value is not None and name not in left_out
    }
    return urlencode(given)


def _rated(value: Any) -> RatedAnswer:
    try:
        interaction = decode(json.dumps(value))
        ratings = [decode(json.dumps(each)) for each in value["ratings"]]
    except (InvalidRecord, KeyError, TypeError) as exc:
        raise RemoteError("the server sent something that is no answer", status=502) from exc
    if not isinstance(interaction, Interaction):
        raise RemoteError("the server sent something that is no answer", status=502)
    return RatedAnswer(interaction, tuple(each for each in ratings if isinstance(each, Rating)))
