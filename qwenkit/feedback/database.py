"""The index's database: its tables, and opening it. Knows SQLite; nothing of what a query means.

Places in the log are a file, an offset and a length. `counts` and `live_…` say what of a rating
counts by the rule of `query.py`; `rated` says whether an answer has such a rating, or was compared
in one. Numbers are never given twice: texts that are gone leave theirs behind in `texts`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qwenkit.errors import LogUnreadable

FILE = "index.sqlite"
VERSION = 1
BUSY_TIMEOUT_S = 60.0
CACHE_KIB = 32 * 1024

TABLES = """
CREATE TABLE files (
    file INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    offset INTEGER NOT NULL, n_lines INTEGER NOT NULL, tail BLOB NOT NULL
);
CREATE TABLE answers (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    file INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    created_at TEXT NOT NULL, thread_id TEXT, model TEXT NOT NULL, adapter TEXT NOT NULL,
    prompt_hash TEXT NOT NULL, template_hash TEXT NOT NULL, rated INTEGER NOT NULL
);
CREATE INDEX answers_by_time ON answers (created_at, n);
CREATE INDEX answers_by_thread ON answers (thread_id, created_at) WHERE thread_id IS NOT NULL;
CREATE INDEX answers_by_prompt ON answers (prompt_hash, template_hash, n);
CREATE INDEX rated_by_time ON answers (created_at, n) WHERE rated = 1;
CREATE INDEX rated_by_prompt ON answers (prompt_hash, template_hash, n) WHERE rated = 1;
CREATE TABLE ratings (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    file INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    created_at TEXT NOT NULL, answer_id TEXT NOT NULL, thread_id TEXT, rater TEXT NOT NULL,
    external_id TEXT, thumb TEXT, scale INTEGER, other_id TEXT, edited INTEGER NOT NULL,
    commented INTEGER NOT NULL, retracted INTEGER NOT NULL,
    counts INTEGER NOT NULL DEFAULT 0, live_thumb TEXT, live_scale INTEGER, live_other TEXT
);
CREATE INDEX ratings_by_answer ON ratings (answer_id, rater);
CREATE INDEX ratings_by_thread ON ratings (thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX ratings_by_time ON ratings (created_at);
CREATE INDEX ratings_by_external ON ratings (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX ratings_by_other ON ratings (live_other) WHERE live_other IS NOT NULL;
CREATE TABLE tool_runs (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL,
    file INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    created_at TEXT NOT NULL, thread_id TEXT, answer_id TEXT
);
CREATE INDEX tool_runs_by_answer ON tool_runs (answer_id) WHERE answer_id IS NOT NULL;
CREATE INDEX tool_runs_by_thread ON tool_runs (thread_id) WHERE thread_id IS NOT NULL;
CREATE VIRTUAL TABLE texts USING fts5 (text, content='', detail='none', tokenize='trigram');
"""
_NAMES = ("files", "answers", "ratings", "tool_runs", "texts")


class Database:
    """A connection to an index; `open_database` makes one. One thread at a time may use it.

    Args:
        connection: SQLite's.
        path: Where it is; None is in memory, where a log has no folder yet.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self.sql = connection
        self._path = path
        self._file = None if path is None else _identity(path)

    def is_current(self, folder: Path) -> bool:
        """Whether it is the index that the folder has now; another may have deleted it."""
        if self._path is None:
            return not folder.is_dir()
        return self._file is not None and _identity(self._path) == self._file

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that keeps other writers out; undone if it fails."""
        self.sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.sql.rollback()
            raise
        self.sql.commit()

    def close(self) -> None:
        """Close the connection."""
        self.sql.close()


def open_database(folder: Path) -> Database:
    """Open a log's index, and make it where there is none or none that can be used.

    Raises:
        LogUnreadable: It can't be opened or made.
    """
    if not folder.is_dir():
        return _in_memory()
    path = folder / FILE
    with told(folder), _alone(folder):
        try:
            return _opened(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            _delete(path)
            return _opened(path)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Translate SQLite's failures.

    Raises:
        LogUnreadable: There was one.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise LogUnreadable(
            f"the index `{folder / FILE}` can't be used: {exc}",
            hint="make its folder writable; an index that is damaged may be deleted",
        ) from exc


def _in_memory() -> Database:
    connection = _connected(":memory:")
    connection.executescript(TABLES)
    return Database(connection, None)


def _opened(path: Path) -> Database:
    # SQLite would let everybody read it, and gives its other files the rights of this one.
    path.touch(mode=0o600)
    connection = _connected(str(path))
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            _make(connection)
    except BaseException:
        connection.close()
        raise
    return Database(connection, path)


def _connected(where: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        where, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def _make(connection: sqlite3.Connection) -> None:
    dropped = "".join(f"DROP TABLE IF EXISTS {name};" for name in _NAMES)
    connection.executescript(
        f"BEGIN IMMEDIATE; {dropped} {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
    )


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from making it at the same time; SQLite's own lock comes too late for that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # NFS can't lock folders.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
