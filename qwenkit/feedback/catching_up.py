"""Takes into the index what was appended to the log since. Knows both; answers nothing.

It goes in steps, each one transaction that leaves the index sound: another process may take over
after any of them, and one that is killed has only its step undone.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidRecord
from qwenkit.feedback.database import Database
from qwenkit.feedback.query import counting
from qwenkit.feedback.reader import Line, Skipped, lines, record_of
from qwenkit.feedback.records import Comparison, Edit, Interaction, Rating, Record, ToolRun
from qwenkit.feedback.segments import segments

STEP_BYTES = 8 * 1024 * 1024
STEP_LINES = 2000
TAIL_BYTES = 1024
"""Enough for the id of a rating: those end alike."""
MAX_SKIPPED = 100
"""Most lines that are named; the others are counted."""
SPARE_TEXTS = 10_000
"""Texts of deleted answers that may stay before an index is made anew."""


@dataclass(slots=True)
class Found:
    """What was found so far.

    Args:
        n_records: Records that are new to the index.
        n_skipped: Lines that hold none.
        skipped: The first of them.
    """

    n_records: int = 0
    n_skipped: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, skipped: Skipped) -> None:
        """Note a line that holds no record."""
        self.n_skipped += 1
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append(skipped)


def left_over(database: Database, folder: Path) -> dict[Path, int]:
    """How many bytes of which files are new to the index."""
    rows = database.sql.execute("SELECT name, offset, tail FROM files")
    read = {name: (offset, tail) for name, offset, tail in rows}
    left = {}
    for each in segments(folder):
        offset, tail = read.get(each.path.name, (0, b""))
        size = _size(each.path)
        if size != offset:
            # One that was rewritten is read anew.
            left[each.path] = size - offset if _tail(each.path, offset) == tail else size
    return left


def forget_deleted(database: Database, folder: Path) -> None:
    """Forget what was in files that are gone or empty, by retention or by hand."""
    there = {each.path.name for each in segments(folder) if _size(each.path)}
    gone = [
        file
        for file, name in database.sql.execute("SELECT file, name FROM files")
        if name not in there
    ]
    if gone:
        with database.writing():
            for file in gone:
                _forget(database, file)
        _drop_spare_texts(database)


def take_step(database: Database, path: Path, found: Found) -> int:
    """Take in the next lines of a file; returns how many bytes they were, 0 at its end."""
    with database.writing():
        state = _state(database, path)
        taken = _Taken(database, state, path, found)
        for line in lines(path, state.offset):
            if line.end is None or taken.is_full:
                break
            taken.add(line)
        taken.finish()
        return taken.n_bytes


@dataclass(slots=True)
class _State:
    """How far a file has been read."""

    file: int
    offset: int
    n_lines: int


class _Taken:
    """The lines of one step."""

    def __init__(self, database: Database, state: _State, path: Path, found: Found) -> None:
        self._database = database
        self._sql = database.sql
        self._state = state
        self._path = path
        self._found = found
        self._begin = state.offset
        self._n_first = state.n_lines
        self._rated: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def n_bytes(self) -> int:
        return self._state.offset - self._begin

    @property
    def is_full(self) -> bool:
        n_lines = self._state.n_lines - self._n_first
        return self.n_bytes >= STEP_BYTES or n_lines >= STEP_LINES

    def add(self, line: Line) -> None:
        assert line.end is not None  # noqa: S101
        self._state.n_lines += 1
        self._state.offset = line.end
        try:
            record = record_of(line)
        except InvalidRecord as exc:
            self._found.skip(Skipped(file=self._path, line=self._state.n_lines, why=exc.message))
            return
        if record is not None:
            self._insert(record, line.offset, line.end - line.offset)

    def finish(self) -> None:
        if not self.n_bytes:
            return
        recount(self._database, self._rated)
        tail = _tail(self._path, self._state.offset)
        self._sql.execute(
            "UPDATE files SET offset = ?, n_lines = ?, tail = ? WHERE file = ?",
            (self._state.offset, self._state.n_lines, tail, self._state.file),
        )

    def _insert(self, record: Record, offset: int, length: int) -> None:
        place = (self._state.file, offset, length)
        match record:
            case Interaction():
                is_new = self._insert_answer(record, place)
            case Rating():
                is_new = self._insert_rating(record, place)
            case ToolRun():
                is_new = self._insert_tool_run(record, place)
        self._found.n_records += is_new

    def _insert_answer(self, record: Interaction, place: tuple[int, int, int]) -> bool:
        adapter = "" if record.adapter is None else record.adapter.name
        done = self._sql.execute(
            "INSERT OR IGNORE INTO answers (id, file, offset, length, created_at, thread_id,"  # noqa: S608
            " model, adapter, prompt_hash, template_hash, rated)"
            f" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {_IS_RATED})",
            (
                record.id,
                *place,
                record.created_at,
                record.thread_id,
                record.model,
                adapter,
                record.prompt_hash,
                record.template_hash,
                record.id,
                record.id,
            ),
        )
        if done.rowcount:
            self._sql.execute(
                "INSERT INTO texts (rowid, text) VALUES (?, ?)",
                # SQLite's tokenizer takes a zero for the end.
                (done.lastrowid, searched_text(record).replace("\0", " ")),
            )
        return done.rowcount > 0

    def _insert_rating(self, record: Rating, place: tuple[int, int, int]) -> bool:
        done = self._sql.execute(
            "INSERT OR IGNORE INTO ratings (id, file, offset, length, created_at, answer_id,"
            " thread_id, rater, external_id, thumb, scale, other_id, edited, commented, retracted)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                *place,
                record.created_at,
                record.answer_id,
                record.thread_id,
                record.rater,
                record.external_id,
                record.thumb,
                record.scale,
                None if record.compared is None else record.compared.other_id,
                record.edited is not None,
                record.comment is not None,
                record.retracted,
            ),
        )
        self._rated[record.answer_id, record.rater] = None
        return done.rowcount > 0

    def _insert_tool_run(self, record: ToolRun, place: tuple[int, int, int]) -> bool:
        self._sql.execute(
            "INSERT INTO tool_runs (id, file, offset, length, created_at, thread_id, answer_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (record.id, *place, record.created_at, record.thread_id, record.answer_id),
        )
        return True


# Of the answer whose id is given twice.
_IS_RATED = (
    "(EXISTS (SELECT 1 FROM ratings WHERE answer_id = ? AND counts = 1)"
    " OR EXISTS (SELECT 1 FROM ratings WHERE live_other = ?))"
)


def recount(database: Database, pairs: Iterable[tuple[str, str]]) -> None:
    """Find out anew which ratings count, of answers and raters whose ratings changed."""
    sql = database.sql
    for answer_id, rater in pairs:
        rows = sql.execute(
            "SELECT n, created_at, thumb, scale, other_id, edited, commented, retracted, live_other"
            " FROM ratings WHERE answer_id = ? AND rater = ? ORDER BY n",
            (answer_id, rater),
        ).fetchall()
        touched = {answer_id, *(row[8] for row in rows)}
        sql.execute(
            "UPDATE ratings SET counts = 0, live_thumb = NULL, live_scale = NULL,"
            " live_other = NULL WHERE answer_id = ? AND rater = ? AND counts = 1",
            (answer_id, rater),
        )
        for rating in counting(_sketch(answer_id, rater, row) for row in rows):
            other = None if rating.compared is None else rating.compared.other_id
            touched.add(other)
            sql.execute(
                "UPDATE ratings SET counts = 1, live_thumb = ?, live_scale = ?, live_other = ?"
                " WHERE n = ?",
                (rating.thumb, rating.scale, other, int(rating.id)),
            )
        for each in touched - {None}:
            sql.execute(
                f"UPDATE answers SET rated = {_IS_RATED} WHERE id = ?",  # noqa: S608
                (each, each, each),
            )


def searched_text(record: Interaction) -> str:
    """What a search by text looks at: the last message and the answer."""
    answer = "" if record.answer is None else record.answer.content
    return f"{question_of(record)}\n{answer}"


def question_of(record: Interaction) -> str:
    """The text of the last message, or the text that was completed."""
    if record.messages:
        return _content(record.messages[-1].get("content"))
    return record.prompt or ""


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(_content(part.get("text")) for part in content if isinstance(part, dict))


def _sketch(answer_id: str, rater: str, row: tuple[Any, ...]) -> Rating:
    """A rating as the rule sees it; what was said in words does not matter to it."""
    n, created_at, thumb, scale, other_id, edited, commented, retracted, _ = row
    return Rating(
        id=str(n),
        created_at=created_at,
        answer_id=answer_id,
        source="api",
        rater=rater,
        thumb=thumb,
        scale=scale,
        comment="" if commented else None,
        compared=Comparison(other_id=other_id, verdict="tie") if other_id else None,
        edited=Edit(content="") if edited else None,
        retracted=bool(retracted),
    )


def _state(database: Database, path: Path) -> _State:
    row = database.sql.execute(
        "SELECT file, offset, n_lines, tail FROM files WHERE name = ?", (path.name,)
    ).fetchone()
    if row is not None and _tail(path, row[1]) == row[3]:
        return _State(*row[:3])
    if row is not None:
        _forget(database, row[0])
    made = database.sql.execute(
        "INSERT INTO files (name, offset, n_lines, tail) VALUES (?, 0, 0, ?)", (path.name, b"")
    )
    assert made.lastrowid is not None  # noqa: S101
    return _State(made.lastrowid, 0, 0)


def _forget(database: Database, file: int) -> None:
    sql = database.sql
    pairs = sql.execute(
        "SELECT DISTINCT answer_id, rater FROM ratings WHERE file = ?", (file,)
    ).fetchall()
    others = sql.execute(
        "SELECT DISTINCT live_other FROM ratings WHERE file = ? AND live_other IS NOT NULL", (file,)
    ).fetchall()
    for table in ("answers", "ratings", "tool_runs", "files"):
        sql.execute(f"DELETE FROM {table} WHERE file = ?", (file,))  # noqa: S608
    recount(database, pairs)
    sql.executemany(
        f"UPDATE answers SET rated = {_IS_RATED} WHERE id = ?",  # noqa: S608
        ((other, other, other) for (other,) in others),
    )


def _drop_spare_texts(database: Database) -> None:
    """Start over where most texts are of answers that are gone: FTS5 can't delete them one by one.

    Deleting from a table without content needs SQLite 3.43.
    """
    sql = database.sql
    (n_answers,) = sql.execute("SELECT count(*) FROM answers").fetchone()
    (n_given,) = sql.execute(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'answers'"
    ).fetchone()
    if n_given - n_answers > max(n_answers, SPARE_TEXTS):
        with database.writing():
            for table in ("files", "answers", "ratings", "tool_runs", "sqlite_sequence"):
                sql.execute(f"DELETE FROM {table}")  # noqa: S608
            sql.execute("INSERT INTO texts (texts) VALUES ('delete-all')")


def _tail(path: Path, offset: int) -> bytes:
    """The bytes before an offset, which tell whether the file is still the one that was read."""
    try:
        with path.open("rb") as file:
            begin = max(0, offset - TAIL_BYTES)
            return os.pread(file.fileno(), offset - begin, begin)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
