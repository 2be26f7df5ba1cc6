"""The SQLite file of kept responses: its tables, and how it is opened. Knows no responses."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

VERSION = 1
BUSY_TIMEOUT_S = 10.0
TABLES = """
CREATE TABLE responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, previous_id TEXT, root_id TEXT NOT NULL,
    created_at REAL NOT NULL, used_at REAL NOT NULL, size INTEGER NOT NULL,
    response TEXT NOT NULL, items TEXT NOT NULL
);
CREATE INDEX responses_by_use ON responses (used_at, size);
CREATE TABLE items (id TEXT NOT NULL, response_id TEXT NOT NULL, PRIMARY KEY (id, response_id))
WITHOUT ROWID;
CREATE INDEX items_by_response ON items (response_id);
CREATE TABLE total (size INTEGER NOT NULL);
INSERT INTO total VALUES (0);
CREATE TRIGGER added AFTER INSERT ON responses
BEGIN UPDATE total SET size = size + new.size; END;
CREATE TRIGGER removed AFTER DELETE ON responses
BEGIN
    UPDATE total SET size = size - old.size;
    DELETE FROM items WHERE response_id = old.id;
END;
"""


def opened(path: Path | None) -> sqlite3.Connection:
    """The file's connection, for any thread; the file is made where there is none.

    Args:
        path: Where; None is in memory.

    Raises:
        OSError: The file can't be made.
        sqlite3.Error: It can't be used, or is of another version.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite would let everybody read it, and gives its other files the rights of this one.
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        # What is deleted must not stay in the file's free pages.
        connection.execute("PRAGMA secure_delete = ON")
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _statements():
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}, and this is {VERSION}")
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _statements() -> Iterator[str]:
    # `executescript` would end the transaction that keeps other processes out.
    statement = ""
    for line in TABLES.splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
