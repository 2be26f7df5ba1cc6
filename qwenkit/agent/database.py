"""Where threads are kept: a SQLite file, or PostgreSQL. Knows LangGraph's savers and a little SQL.

Beside the checkpoints it runs plain statements for whoever keeps rows in the same database. They
are written once, in what both databases understand, with `?` for values.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from qwenkit.errors import InvalidSettings, ServerError
from qwenkit.extras import import_extra

POSTGRES_SCHEMES = ("postgresql://", "postgres://")
SQLITE_SCHEME = "sqlite:///"
BUSY_TIMEOUT_S = 30.0
POOL_SIZE = 10
OPEN_TIMEOUT_S = 15.0

Row = tuple[Any, ...]


class _Statements(Protocol):
    """Runs SQL; each statement is its own transaction."""

    async def run(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """The rows that a statement gives, if any."""


class Database:
    """Checkpoints and rows.

    Args:
        saver: LangGraph's face of it.
        statements: SQL's face of it.
        writes_table: Where the saver keeps the writes of unfinished steps.
    """

    def __init__(
        self, saver: BaseCheckpointSaver[Any], statements: _Statements, *, writes_table: str
    ) -> None:
        self.saver = saver
        self._statements = statements
        self._tables = ("checkpoints", writes_table)

    async def run(self, sql: str, *values: Any) -> list[Row]:
        """The rows that a statement gives, if any."""
        return await self._statements.run(sql, values)

    async def has_checkpoint(self, thread_id: str, checkpoint_id: str) -> bool:
        """Whether a thread has a checkpoint; LangGraph begins anew at one that is not there."""
        place = _config(thread_id, "")
        place["configurable"]["checkpoint_id"] = checkpoint_id
        return await self.saver.aget_tuple(place) is not None

    async def delete_checkpoints(self, thread_id: str, checkpoint_ids: Sequence[str]) -> None:
        """Forget single checkpoints of a thread."""
        for table in self._tables:
            for checkpoint_id in checkpoint_ids:
                await self.run(
                    f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id = ?",  # noqa: S608
                    thread_id,
                    checkpoint_id,
                )

    async def copy_checkpoints(self, source: str, target: str) -> None:
        """Give a new thread all checkpoints of another, ids and parents as they are."""
        found = [each async for each in self.saver.alist(_config(source))]
        for checkpoint in reversed(found):
            await self._put_copy(checkpoint, target)

    async def _put_copy(self, found: CheckpointTuple, target: str) -> None:
        place = found.config["configurable"]
        parent = (found.parent_config or {}).get("configurable", {}).get("checkpoint_id")
        config = _config(target, place["checkpoint_ns"])
        if parent is not None:
            config["configurable"]["checkpoint_id"] = parent
        metadata = {**found.metadata}
        if "thread_id" in metadata:
            metadata["thread_id"] = target
        versions = found.checkpoint["channel_versions"]
        put = await self.saver.aput(config, found.checkpoint, metadata, versions)
        by_task: dict[str, list[tuple[str, Any]]] = {}
        for task_id, channel, value in found.pending_writes or ():
            by_task.setdefault(task_id, []).append((channel, value))
        for task_id, writes in by_task.items():
            await self.saver.aput_writes(put, writes, task_id)


def open_database(where: Path | str) -> AbstractAsyncContextManager[Database]:
    """Open a database and make its tables where they are not there.

    Args:
        where: A SQLite file, `sqlite:///` and a path, or the URL of a PostgreSQL database.

    Raises:
        MissingExtra: A package for that database is not installed.
        InvalidSettings: It is no such URL.
        ServerError: It can't be opened.
    """
    if isinstance(where, Path):
        return _open_sqlite(where)
    if where.startswith(POSTGRES_SCHEMES):
        return _open_postgres(where)
    if where.startswith(SQLITE_SCHEME):
        return _open_sqlite(Path(where.removeprefix(SQLITE_SCHEME)).expanduser())
    raise InvalidSettings(
        "DATABASE_URL is neither postgresql://… nor sqlite:///…",
        hint="for example postgresql://user:password@host/database",
    )


def _config(thread_id: str, namespace: str | None = None) -> RunnableConfig:
    configurable: dict[str, Any] = {"thread_id": thread_id}
    if namespace is not None:
        configurable["checkpoint_ns"] = namespace
    return {"configurable": configurable}


@asynccontextmanager
async def _open_sqlite(path: Path) -> AsyncIterator[Database]:
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connections = [
                await stack.enter_async_context(aiosqlite.connect(path, timeout=BUSY_TIMEOUT_S))
                for _ in range(2)
            ]
            saver = AsyncSqliteSaver(connections[0])
            await saver.setup()
        except (OSError, sqlite3.Error) as exc:
            raise ServerError(f"`{path}` can't be opened as a database: {exc}") from exc
        yield Database(saver, _SqliteStatements(connections[1]), writes_table="writes")


class _SqliteStatements:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    async def run(self, sql: str, values: Sequence[Any]) -> list[Row]:
        async with self._turn, self._connection.execute(sql, values) as cursor:
            rows = [tuple(row) for row in await cursor.fetchall()]
            await self._connection.commit()
        return rows


@asynccontextmanager
async def _open_postgres(url: str) -> AsyncIterator[Database]:
    import_extra("psycopg", extra="postgres")
    import_extra("psycopg_pool", extra="postgres")
    import_extra("langgraph.checkpoint.postgres", extra="postgres")
    import psycopg
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool, PoolTimeout

    pool: Any = AsyncConnectionPool(
        url,
        min_size=1,
        max_size=POOL_SIZE,
        open=False,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
    )
    try:
        await pool.open(wait=True, timeout=OPEN_TIMEOUT_S)
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
    except (psycopg.Error, PoolTimeout) as exc:
        await pool.close()
        raise ServerError(
            f"the database of DATABASE_URL can't be opened: {type(exc).__name__}",
            hint="check that it runs and that user and password are right",
        ) from exc
    try:
        yield Database(saver, _PostgresStatements(pool), writes_table="checkpoint_writes")
    finally:
        await pool.close()


class _PostgresStatements:
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def run(self, sql: str, values: Sequence[Any]) -> list[Row]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(sql.replace("?", "%s"), values)
            rows = await cursor.fetchall() if cursor.description else []
        return [tuple(row.values()) for row in rows]
