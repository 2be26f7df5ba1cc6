"""Turns a query into SQL over the index's tables. Runs none of it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from qwenkit.errors import InvalidRequest
from qwenkit.feedback.query import Query

Value: TypeAlias = str | int
GRAM = 3
"""Characters of the pieces that texts are found by; shorter words are looked for one by one."""
MAX_GRAMS = 32
NUMBERS = 2**63
"""An answer's number in the index is below it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A condition on `answers a`, and the values in it."""

    condition: str
    values: tuple[Value, ...]

    def and_also(self, condition: str, *values: Value) -> Selection:
        """This, and one more."""
        return Selection(f"{self.condition} AND {condition}", (*self.values, *values))


def selected(query: Query) -> Selection:
    """Which answers a query asks for; by text only roughly, so that it has to be looked at."""
    selection = Selection("1", ())
    for column in ("thread_id", "model", "adapter"):
        value = getattr(query, column)
        if value is not None:
            selection = selection.and_also(f"a.{column} = ?", value)
    if query.since is not None:
        selection = selection.and_also("a.created_at >= ?", query.since)
    if query.until is not None:
        selection = selection.and_also("a.created_at < ?", query.until)
    if query.rated is False:
        selection = selection.and_also("a.rated = 0")
    selection = _with_ratings(selection, query)
    grams = _grams(query.text or "")
    if grams:
        selection = selection.and_also(
            "a.n IN (SELECT rowid FROM texts WHERE texts MATCH ?)", grams
        )
    return selection


def cursor_of(created_at: str, n: int) -> str:
    """What begins the page behind an answer."""
    return base64.urlsafe_b64encode(json.dumps([created_at, n]).encode()).decode()


def read_cursor(cursor: str) -> tuple[str, int]:
    """The answer that a page begins behind.

    Raises:
        InvalidRequest: It is no cursor.
    """
    match _decoded(cursor):
        case [str(created_at), int(n)] if created_at.isascii() and abs(n) < NUMBERS:
            return created_at, n
    raise InvalidRequest(
        "the cursor is none that was given out", param="cursor", hint="take `next_cursor`"
    )


def _decoded(cursor: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(cursor))
    except ValueError:
        return None


def _with_ratings(selection: Selection, query: Query) -> Selection:
    scale: dict[str, Value] = {}
    if query.min_scale is not None:
        scale["r.live_scale >= ?"] = query.min_scale
    if query.max_scale is not None:
        scale["r.live_scale <= ?"] = query.max_scale
    thumb: dict[str, Value] = {} if query.thumb is None else {"r.live_thumb = ?": query.thumb}
    who: dict[str, Value] = {} if query.rater is None else {"r.rater = ?": query.rater}
    wanted = [group | who for group in (thumb, scale) if group] or [who] * bool(who)
    if wanted or query.rated:
        # Leads SQLite to the index of rated answers, which are few.
        selection = selection.and_also("a.rated = 1")
    for group in wanted:
        selection = selection.and_also(_HAS_RATING % " AND ".join(group), *group.values())
    return selection


_HAS_RATING = "EXISTS (SELECT 1 FROM ratings r WHERE r.answer_id = a.id AND r.counts = 1 AND %s)"


def _grams(text: str) -> str:
    """An expression for FTS5 that holds of every text with this in it; may be empty."""
    pieces = {text[i : i + GRAM]: None for i in range(len(text) - GRAM + 1)}
    # SQLite takes a zero for the end of the expression.
    readable = [piece for piece in pieces if "\0" not in piece][:MAX_GRAMS]
    quoted = ('"' + piece.replace('"', '""') + '"' for piece in readable)
    return " AND ".join(quoted)
