"""Finds answers and ratings in the log: a SQLite database beside it, caught up when asked to.

It holds places, not what is there, and is derived: deleted, it is made anew. Texts are found by
pieces of three characters and then looked at in the log.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from qwenkit.feedback.catching_up import (
    Found,
    forget_deleted,
    left_over,
    searched_text,
    take_step,
)
from qwenkit.feedback.database import open_database, told
from qwenkit.feedback.places import Places
from qwenkit.feedback.query import (
    MAX_GROUP,
    Page,
    PromptGroup,
    Query,
    RatedAnswer,
    counting,
)
from qwenkit.feedback.reader import Skipped
from qwenkit.feedback.records import Interaction, Rating, ToolRun
from qwenkit.feedback.selection import Selection, cursor_of, read_cursor, selected
from qwenkit.models.progress import ProgressFactory, silent

CHUNK = 500
"""Answers that are held at once while many are read."""
MAX_LOOKED_AT = 10_000
"""Answers that one page of a search by text looks at: a short text is looked for in every one."""

Row: TypeAlias = tuple[Any, ...]
"""Number, id, time, hash of prompt and of template, whether rated; then the place in the log."""
_COLUMNS = (
    "a.n, a.id, a.created_at, a.prompt_hash, a.template_hash, a.rated, f.name, a.offset, a.length"
)
_BY_TIME = ("a.created_at", "a.n")
_BY_PROMPT = ("a.prompt_hash", "a.template_hash", "a.n")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What a refresh found.

    Args:
        n_records: New records.
        n_skipped: New lines that hold none.
        skipped: The first of those, to name them.
    """

    n_records: int
    n_skipped: int
    skipped: tuple[Skipped, ...] = ()


class FeedbackIndex:
    """The index of a log. May be shared by threads, and by processes that open it each.

    Args:
        folder: The log's.

    Raises:
        LogUnreadable: The index can't be opened or made; any method may find so later.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._turn = threading.RLock()
        self._database = open_database(folder)

    def refresh(self, progress: ProgressFactory = silent) -> IndexReport:
        """Take in what was written up to now; queries see the log as of then."""
        found = Found()
        with told(self.folder):
            self._reopen_if_replaced()
            with self._turn:
                forget_deleted(self._database, self.folder)
                left = left_over(self._database, self.folder)
            if left:
                with progress("Indexing the log", total=sum(left.values()), unit="B") as advance:
                    for path, n_bytes in left.items():
                        for taken in self._steps(path, n_bytes, found):
                            advance(taken)
        return IndexReport(
            n_records=found.n_records, n_skipped=found.n_skipped, skipped=tuple(found.skipped)
        )

    def search(self, query: Query) -> Page:
        """The answers that a query asks for, newest first, a page at a time.

        A page by text ends after `MAX_LOOKED_AT` answers that may have it, with what was found.

        Raises:
            InvalidRequest: The cursor is none.
        """
        after = None if query.cursor is None else read_cursor(query.cursor)
        found: list[tuple[Row, RatedAnswer]] = []
        n_seen = 0
        size = CHUNK if query.text else min(CHUNK, query.limit + 1)
        for rows in self._chunks(query, _BY_TIME, after=after, descending=True, size=size):
            found += self._read(rows, query.text)
            n_seen += len(rows)
            if len(found) > query.limit:
                return _page(found[: query.limit], found[query.limit - 1][0])
            if query.text and n_seen >= MAX_LOOKED_AT:
                return _page(found, rows[-1])
        return _page(found, None)

    def answers(self, query: Query) -> Iterator[RatedAnswer]:
        """All answers that a query asks for, oldest first; its limit and cursor don't matter."""
        for rows in self._chunks(query, _BY_TIME):
            for _, answer in self._read(rows, query.text):
                yield answer

    def count(self, query: Query) -> int:
        """How many answers a query asks for."""
        if query.text:
            return sum(1 for _ in self.answers(query))
        selection = selected(query)
        rows = self._run(
            f"SELECT count(*) FROM answers a WHERE {selection.condition}",  # noqa: S608
            selection.values,
        )
        return int(rows[0][0])

    def prompt_groups(self, query: Query) -> Iterator[PromptGroup]:
        """All answers that a query asks for, by rendered prompt and in order of its hash."""
        batch: list[_Group] = []
        n_rows = 0
        for group in self._groups(query):
            batch.append(group)
            n_rows += len(group.rows)
            if n_rows >= CHUNK:
                yield from self._read_groups(batch, query.text)
                batch, n_rows = [], 0
        yield from self._read_groups(batch, query.text)

    def answer(self, answer_id: str) -> RatedAnswer | None:
        """The answer of an id."""
        rows = self._run(_answers("a.id = ?"), (answer_id,))
        return next((answer for _, answer in self._read(rows)), None)

    def ratings(
        self, *, thread_id: str | None = None, answer_id: str | None = None
    ) -> tuple[Rating, ...]:
        """The ratings that count, of a conversation or of an answer, in order of time."""
        if answer_id is not None:
            return self._ratings("r.answer_id = ?", (answer_id,))
        return self._ratings(
            "(r.thread_id = ?1 OR r.answer_id IN (SELECT id FROM answers WHERE thread_id = ?1))",
            (thread_id,),
        )

    def history(self, answer_id: str) -> tuple[Rating, ...]:
        """Every rating of an answer, those that no longer count too, in the order of the log."""
        rows = self._run(
            "SELECT f.name, r.offset, r.length FROM ratings r CROSS JOIN files f ON f.file = r.file"
            " WHERE r.answer_id = ? ORDER BY r.n",
            (answer_id,),
        )
        with Places(self.folder) as places:
            read = [places.read(*row) for row in rows]
        return tuple(each for each in read if isinstance(each, Rating))

    def all_ratings(self) -> Iterator[Rating]:
        """Every rating that counts, in the order they were written in."""
        last = 0
        while rows := self._run(
            "SELECT r.answer_id, r.n FROM ratings r WHERE r.n > ? AND r.counts = 1"
            " ORDER BY r.n LIMIT ?",
            (last, CHUNK),
        ):
            first, last = rows[0][1], rows[-1][1]
            yield from self._ratings("r.n BETWEEN ? AND ?", (first, last))

    def tool_runs(
        self, *, thread_id: str | None = None, answer_id: str | None = None
    ) -> Iterator[ToolRun]:
        """Runs of tools of a conversation or of an answer, in order of time."""
        column, value = ("answer_id", answer_id) if answer_id else ("thread_id", thread_id)
        rows = self._run(
            "SELECT f.name, t.offset, t.length FROM tool_runs t JOIN files f ON f.file = t.file"  # noqa: S608
            f" WHERE t.{column} = ? ORDER BY t.created_at, t.n",
            (value,),
        )
        with Places(self.folder) as places:
            records = [places.read(*row) for row in rows]
        yield from (each for each in records if isinstance(each, ToolRun))

    def has_external(self, external_id: str) -> bool:
        """Whether a rating was pulled from that id already."""
        found = self._run("SELECT 1 FROM ratings WHERE external_id = ? LIMIT 1", (external_id,))
        return bool(found)

    def days(self, limit: int) -> tuple[tuple[str, int], ...]:
        """The last days with answers, newest first, and how many there are of each."""
        rows = self._run(
            "SELECT substr(created_at, 1, 10) AS day, count(*) FROM answers"
            " GROUP BY day ORDER BY day DESC LIMIT ?",
            (limit,),
        )
        return tuple((str(day), int(n_answers)) for day, n_answers in rows)

    def latest_change(self) -> str | None:
        """When the newest rating was given."""
        found: str | None = self._run("SELECT max(created_at) FROM ratings", ())[0][0]
        return found

    def close(self) -> None:
        """Close the database."""
        with self._turn:
            self._database.close()

    def _steps(self, path: Path, n_bytes: int, found: Found) -> Iterator[int]:
        """Takes in a file up to the size that it had, step by step."""
        while n_bytes > 0:
            with self._turn:
                taken = take_step(self._database, path, found)
            if not taken:
                return
            n_bytes -= taken
            yield taken

    def _reopen_if_replaced(self) -> None:
        with self._turn:
            if not self._database.is_current(self.folder):
                self._database.close()
                self._database = open_database(self.folder)

    def _chunks(
        self,
        query: Query,
        order: Sequence[str],
        *,
        after: Sequence[str | int] | None = None,
        descending: bool = False,
        size: int = CHUNK,
    ) -> Iterator[list[Row]]:
        """Rows of answers in an order, some at a time, so that no transaction lasts long."""
        base = selected(query)
        direction = " DESC" if descending else ""
        ordered = ", ".join(f"{column}{direction}" for column in order)
        key = [_COLUMNS.split(", ").index(column) for column in order]
        while True:
            selection = base if after is None else _behind(base, order, after, descending)
            rows = self._run(
                f"{_answers(selection.condition)} ORDER BY {ordered} LIMIT ?",
                (*selection.values, size),
            )
            if rows:
                yield rows
            if len(rows) < size:
                return
            after = [rows[-1][i] for i in key]

    def _groups(self, query: Query) -> Iterator[_Group]:
        group: _Group | None = None
        for rows in self._chunks(query, _BY_PROMPT):
            for row in rows:
                if group is None or group.key != (row[3], row[4]):
                    if group is not None:
                        yield group.trimmed()
                    group = _Group((row[3], row[4]))
                group.add(row)
        if group is not None:
            yield group.trimmed()

    def _read_groups(self, groups: list[_Group], text: str | None) -> Iterator[PromptGroup]:
        rows = [row for group in groups for row in group.rows]
        answers = {row[0]: answer for row, answer in self._read(rows, text)}
        for group in groups:
            found = tuple(answers[row[0]] for row in group.rows if row[0] in answers)
            if found:
                yield PromptGroup(*group.key, found, group.n_left_out)

    def _read(self, rows: list[Row], text: str | None = None) -> list[tuple[Row, RatedAnswer]]:
        """The answers of rows; without those that are gone, or don't have the text."""
        wanted = (text or "").lower()
        with Places(self.folder) as places:
            read = [(row, places.read(*row[6:])) for row in rows]
        found = [
            (row, record)
            for row, record in read
            if isinstance(record, Interaction)
            and record.id == row[1]
            and (not wanted or wanted in searched_text(record).lower())
        ]
        ratings = self._ratings_of([row[1] for row, _ in found if row[5]])
        return [(row, RatedAnswer(record, ratings.get(record.id, ()))) for row, record in found]

    def _ratings_of(self, answer_ids: list[str]) -> dict[str, tuple[Rating, ...]]:
        by_answer: dict[str, tuple[Rating, ...]] = {}
        for i in range(0, len(answer_ids), CHUNK):
            ids = answer_ids[i : i + CHUNK]
            for rating in self._ratings(f"r.answer_id IN ({','.join('?' * len(ids))})", ids):
                by_answer[rating.answer_id] = (*by_answer.get(rating.answer_id, ()), rating)
        return by_answer

    def _ratings(self, condition: str, values: Sequence[Any]) -> tuple[Rating, ...]:
        rows = self._run(
            "SELECT f.name, r.offset, r.length FROM ratings r CROSS JOIN files f ON f.file = r.file"  # noqa: S608
            f" WHERE r.counts = 1 AND {condition} ORDER BY r.n",
            values,
        )
        with Places(self.folder) as places:
            read = [places.read(*row) for row in rows]
        return counting(each for each in read if isinstance(each, Rating))

    def _run(self, sql: str, values: Sequence[Any]) -> list[Row]:
        with told(self.folder), self._turn:
            return self._database.sql.execute(sql, tuple(values)).fetchall()


class _Group:
    """Rows of one prompt, not more than `MAX_GROUP` for long."""

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key
        self.rows: list[Row] = []
        self.n_left_out = 0

    def add(self, row: Row) -> None:
        """Take in a row."""
        self.rows.append(row)
        if len(self.rows) >= 2 * MAX_GROUP:
            self.trimmed()

    def trimmed(self) -> _Group:
        """This, with the rated and the newest rows only, in order of their numbers."""
        if len(self.rows) > MAX_GROUP:
            by_worth = sorted(self.rows, key=lambda row: (row[5], row[0]))
            self.n_left_out += len(self.rows) - MAX_GROUP
            self.rows = sorted(by_worth[-MAX_GROUP:], key=lambda row: int(row[0]))
        return self


def _page(found: list[tuple[Row, RatedAnswer]], last: Row | None) -> Page:
    """A page, and the next one behind the last row that it has dealt with."""
    cursor = None if last is None else cursor_of(last[2], last[0])
    return Page(tuple(answer for _, answer in found), cursor)


def _answers(condition: str) -> str:
    # The order of the join is given: answers lead, in the order of an index.
    return (
        f"SELECT {_COLUMNS} FROM answers a CROSS JOIN files f ON f.file = a.file"  # noqa: S608
        f" WHERE {condition}"
    )


def _behind(
    base: Selection, order: Sequence[str], after: Sequence[str | int], descending: bool
) -> Selection:
    places = ", ".join("?" * len(order))
    sign = "<" if descending else ">"
    return base.and_also(f"({', '.join(order)}) {sign} ({places})", *after)
