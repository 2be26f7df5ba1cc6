"""Finds threads, page by page. Pure but for the rows it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from qwenkit.server.agent.records import Records, Thread, contains
from qwenkit.server.agent.schema import ThreadSearch

T = TypeVar("T")
_STEP = re.compile(r"([^.\[\]]+)|\[(-?\d{1,9})\]")


async def find_threads(records: Records, query: ThreadSearch) -> list[Thread]:
    """The threads that fit, sorted, all pages."""
    found = [each for each in await records.threads() if _fits(each, query)]
    if query.values:
        found = await records.with_states(found)
        found = [
            each
            for each in found
            if each.state is not None and contains(each.state.values or {}, query.values)
        ]
    key = query.sort_by or "updated_at"
    newest_first = query.sort_order != "asc"
    return sorted(found, key=lambda each: str(getattr(each, key)), reverse=newest_first)


def page_headers(total: int, *, limit: int, offset: int) -> dict[str, str]:
    """How many there are, and where the next page begins."""
    headers = {"X-Pagination-Total": str(total)}
    if offset + limit < total:
        headers["X-Pagination-Next"] = str(offset + limit)
    return headers


def page(found: Sequence[T], *, limit: int, offset: int) -> Sequence[T]:
    """One page of what was found."""
    return found[offset : offset + limit]


def select(owner: Mapping[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    """Only some fields of an object; `values.messages` is one field of a field."""
    if not fields:
        return dict(owner)
    chosen: dict[str, Any] = {}
    for name in fields:
        outer, _, inner = name.partition(".")
        if outer not in owner:
            continue
        value = owner[outer]
        if inner and isinstance(value, Mapping):
            part = {inner: value[inner]} if inner in value else {}
            value = {**chosen.get(outer, {}), **part}
        chosen[outer] = value
    return chosen


def extract(owner: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """Values by their paths (`values.messages[-1].content`); null where there is none."""
    return {name: _at(owner, path) for name, path in paths.items()}


def _at(value: Any, path: str) -> Any:
    for name, index in _STEP.findall(path):
        try:
            value = value[int(index)] if index else value[name]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _fits(thread: Thread, query: ThreadSearch) -> bool:
    return (
        not thread.config.get("temporary")
        and (query.ids is None or thread.thread_id in query.ids)
        and query.status in (None, thread.status)
        and contains(thread.metadata, query.metadata or {})
    )
