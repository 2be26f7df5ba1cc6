"""Rows of threads, runs and assistants, beside the checkpoints in the same database.

Knows SQL and JSON; no LangGraph. What a search filters by is read here, row by row: a thousand
threads are a few milliseconds, and both databases give the same answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from qwenkit.server.agent.schema import RunStatus, Strategy, ThreadStatus

_TABLES = (
    """CREATE TABLE IF NOT EXISTS agent_threads (
        thread_id TEXT PRIMARY KEY, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
        state_updated_at TEXT NOT NULL, status TEXT NOT NULL, metadata TEXT NOT NULL,
        config TEXT NOT NULL, state TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS agent_runs (
        run_id TEXT PRIMARY KEY, thread_id TEXT NOT NULL, assistant_id TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, status TEXT NOT NULL,
        metadata TEXT NOT NULL, multitask_strategy TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS agent_runs_by_thread ON agent_runs (thread_id, created_at)",
    """CREATE TABLE IF NOT EXISTS agent_assistants (
        assistant_id TEXT PRIMARY KEY, latest INTEGER NOT NULL, versions TEXT NOT NULL)""",
)
_THREAD = "thread_id, created_at, updated_at, state_updated_at, status, metadata, config"
_RUN = (
    "run_id, thread_id, assistant_id, created_at, updated_at, status, metadata, multitask_strategy"
)

Row = tuple[Any, ...]


class Sql(Protocol):
    """A database that runs statements, with `?` for values."""

    async def run(self, sql: str, *values: Any) -> list[Row]:
        """The rows that a statement gives, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadState:
    """What a thread's row knows of its newest state."""

    values: dict[str, Any] | None = None
    interrupts: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation's row; `state` is None where it was not asked for."""

    thread_id: str
    created_at: str
    updated_at: str
    state_updated_at: str
    status: ThreadStatus
    metadata: dict[str, Any]
    config: dict[str, Any]
    state: ThreadState | None = None

    def as_json(self) -> dict[str, Any]:
        """As the protocol has it."""
        state = self.state or ThreadState()
        return {
            "thread_id": self.thread_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "state_updated_at": self.state_updated_at,
            "metadata": self.metadata,
            "status": self.status,
            "config": self.config,
            "values": state.values,
            "error": state.error,
            "interrupts": state.interrupts,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run's row."""

    run_id: str
    thread_id: str
    assistant_id: str
    created_at: str
    updated_at: str
    status: RunStatus
    metadata: dict[str, Any]
    multitask_strategy: Strategy

    def as_json(self) -> dict[str, Any]:
        """As the protocol has it."""
        return {
            "run_id": self.run_id,
            "thread_id": self.thread_id,
            "assistant_id": self.assistant_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "status": self.status,
            "metadata": self.metadata,
            "multitask_strategy": self.multitask_strategy,
        }


def now() -> str:
    """The current time, as the protocol spells it."""
    return datetime.now(UTC).isoformat()


def contains(owner: Any, wanted: Any) -> bool:
    """Whether a value holds another, as PostgreSQL's `@>` has it."""
    if isinstance(wanted, Mapping):
        return isinstance(owner, Mapping) and all(
            key in owner and contains(owner[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(owner, list) and all(
            any(contains(item, each) for item in owner) for each in wanted
        )
    return bool(owner == wanted)


class Records:
    """The rows of one database.

    Args:
        database: Runs the statements.
    """

    def __init__(self, database: Sql) -> None:
        self._run = database.run

    async def prepare(self) -> None:
        """Make the tables where they are not there."""
        for statement in _TABLES:
            await self._run(statement)

    async def threads(self) -> list[Thread]:
        """Every thread, without its state."""
        return [_thread(row) for row in await self._run(f"SELECT {_THREAD} FROM agent_threads")]  # noqa: S608

    async def thread(self, thread_id: str) -> Thread | None:
        """A thread with its state, if there is one."""
        rows = await self._run(
            f"SELECT {_THREAD}, state FROM agent_threads WHERE thread_id = ?",  # noqa: S608
            thread_id,
        )
        return _thread(rows[0]) if rows else None

    async def with_states(self, threads: Sequence[Thread]) -> list[Thread]:
        """The same threads with their states, as far as they are still there."""
        marks = ", ".join("?" for _ in threads)
        rows = await self._run(
            f"SELECT {_THREAD}, state FROM agent_threads WHERE thread_id IN ({marks})",  # noqa: S608
            *(each.thread_id for each in threads),
        )
        found = {row[0]: _thread(row) for row in rows}
        return [found[each.thread_id] for each in threads if each.thread_id in found]

    async def put_thread(self, thread: Thread) -> None:
        """Keep a new thread."""
        await self._run(
            f"INSERT INTO agent_threads ({_THREAD}, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            thread.thread_id,
            thread.created_at,
            thread.updated_at,
            thread.state_updated_at,
            thread.status,
            _dump(thread.metadata),
            _dump(thread.config),
            _dump(_state_json(thread.state or ThreadState())),
        )

    async def change_thread(self, thread_id: str, **changes: Any) -> None:
        """Write some of a thread's columns: `status`, `metadata`, `config` or `state`."""
        moment = now()
        values: dict[str, Any] = {"updated_at": moment}
        for name, value in changes.items():
            values[name] = value if name == "status" else _dump(_plain(value))
        if "state" in changes:
            values["state_updated_at"] = moment
        assignments = ", ".join(f"{name} = ?" for name in values)
        await self._run(
            f"UPDATE agent_threads SET {assignments} WHERE thread_id = ?",  # noqa: S608
            *values.values(),
            thread_id,
        )

    async def delete_thread(self, thread_id: str) -> None:
        """Forget a thread and its runs."""
        await self._run("DELETE FROM agent_runs WHERE thread_id = ?", thread_id)
        await self._run("DELETE FROM agent_threads WHERE thread_id = ?", thread_id)

    async def runs(self, thread_id: str) -> list[RunRecord]:
        """A thread's runs, newest first."""
        rows = await self._run(
            f"SELECT {_RUN} FROM agent_runs WHERE thread_id = ? ORDER BY created_at DESC",  # noqa: S608
            thread_id,
        )
        return [_run(row) for row in rows]

    async def unfinished_runs(self) -> list[RunRecord]:
        """Runs of whose end nobody knows."""
        rows = await self._run(
            f"SELECT {_RUN} FROM agent_runs WHERE status IN ('pending', 'running')"  # noqa: S608
        )
        return [_run(row) for row in rows]

    async def put_run(self, run: RunRecord) -> None:
        """Keep a new run."""
        await self._run(
            f"INSERT INTO agent_runs ({_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            *(*(getattr(run, name) for name in _RUN.split(", ")[:6]), _dump(run.metadata)),
            run.multitask_strategy,
        )

    async def end_run(self, run: RunRecord, status: RunStatus) -> RunRecord:
        """Write what became of a run."""
        changed = replace(run, status=status, updated_at=now())
        await self._run(
            "UPDATE agent_runs SET status = ?, updated_at = ? WHERE run_id = ?",
            changed.status,
            changed.updated_at,
            changed.run_id,
        )
        return changed

    async def delete_run(self, run_id: str) -> None:
        """Forget a run."""
        await self._run("DELETE FROM agent_runs WHERE run_id = ?", run_id)

    async def assistants(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """Every assistant: which version holds, and all versions."""
        rows = await self._run("SELECT latest, versions FROM agent_assistants")
        return [(latest, json.loads(versions)) for latest, versions in rows]

    async def put_assistant(
        self, assistant_id: str, latest: int, versions: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep an assistant, in place of the one of that id."""
        await self._run(
            "INSERT INTO agent_assistants (assistant_id, latest, versions) VALUES (?, ?, ?) "
            "ON CONFLICT (assistant_id) DO UPDATE SET latest = excluded.latest, "
            "versions = excluded.versions",
            assistant_id,
            latest,
            _dump(list(versions)),
        )

    async def delete_assistant(self, assistant_id: str) -> None:
        """Forget an assistant."""
        await self._run("DELETE FROM agent_assistants WHERE assistant_id = ?", assistant_id)


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _plain(value: Any) -> Any:
    return _state_json(value) if isinstance(value, ThreadState) else value


def _state_json(state: ThreadState) -> dict[str, Any]:
    return {"values": state.values, "interrupts": state.interrupts, "error": state.error}


def _thread(row: Row) -> Thread:
    thread_id, created_at, updated_at, state_updated_at, status, metadata, config, *state = row
    return Thread(
        thread_id=thread_id,
        created_at=created_at,
        updated_at=updated_at,
        state_updated_at=state_updated_at,
        status=status,
        metadata=json.loads(metadata),
        config=json.loads(config),
        state=ThreadState(**json.loads(state[0])) if state else None,
    )


def _run(row: Row) -> RunRecord:
    run_id, thread_id, assistant_id, created_at, updated_at, status, metadata, strategy = row
    return RunRecord(
        run_id=run_id,
        thread_id=thread_id,
        assistant_id=assistant_id,
        created_at=created_at,
        updated_at=updated_at,
        status=status,
        metadata=json.loads(metadata),
        multitask_strategy=strategy,
    )
