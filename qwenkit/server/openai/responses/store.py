"""Keeps responses in SQLite, within bounds of time and size. Knows no HTTP and no roles.

Any thread may call it, and several processes may share its file. What has not been used for longest
goes first; a conversation that is gone on with is used as a whole.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidRequest, LogUnreadable
from qwenkit.server.openai.responses.database import opened
from qwenkit.server.openai.responses.kept import KeptResponse

MAX_CHAIN = 1000
"""Responses that one conversation may have."""
MAX_CHAIN_BYTES = 32 * 2**20
"""Bytes that they may have together: a conversation is read as a whole."""


class ResponseStore:
    """A bounded store of responses; its file is made when it is first needed.

    Args:
        path: Where; None is in memory.
        max_bytes: Most bytes of responses and what they answered.
        keep_s: Seconds that one is kept after it was last used.
        clock: Tells the time, in seconds since 1970.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_bytes: int,
        keep_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def put(self, kept: KeptResponse) -> bool:
        """Keep a response; False where it is over the bound alone.

        Raises:
            LogUnreadable: The file can't be used.
        """
        response = json.dumps(kept.response, ensure_ascii=False)
        items = json.dumps(kept.items, ensure_ascii=False)
        size = len(response.encode()) + len(items.encode())
        if size > self._max_bytes:
            return False
        now = self._clock()
        row = (kept.id, kept.owner, kept.previous_id, kept.root_id, now, now, size, response, items)
        item_ids = {each["id"] for each in kept.said() if isinstance(each.get("id"), str)}
        with self._writing() as sql:
            sql.execute("DELETE FROM responses WHERE used_at < ?", (now - self._keep_s,))
            sql.execute("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            pairs = [(each, kept.id) for each in item_ids]
            sql.executemany("INSERT INTO items VALUES (?, ?)", pairs)
            self._shrink(sql)
        return True

    def get(self, response_id: str) -> KeptResponse | None:
        """The response of an id.

        Raises:
            LogUnreadable: The file can't be used.
        """
        with self._using() as sql:
            return self._found(sql, response_id)

    def chain(self, response_id: str) -> list[KeptResponse] | None:
        """A conversation up to a response, oldest first; None where some of it is not there.

        Raises:
            InvalidRequest: It is too long to be gone on with.
            LogUnreadable: The file can't be used.
        """
        chain: list[KeptResponse] = []
        n_bytes, wanted = 0, response_id
        with self._writing() as sql:
            while wanted:
                found = self._found(sql, wanted)
                if found is None:
                    return None
                chain.append(found)
                n_bytes += self._size(sql, wanted)
                if len(chain) > MAX_CHAIN or n_bytes > MAX_CHAIN_BYTES:
                    raise InvalidRequest(
                        "the conversation is too long to be gone on with",
                        param="previous_response_id",
                        hint="send what matters of it as input",
                    )
                wanted = found.previous_id or ""
            used = [(self._clock(), each.id) for each in chain]
            sql.executemany("UPDATE responses SET used_at = ? WHERE id = ?", used)
        return chain[::-1]

    def items(
        self, wanted: Collection[str], may_see: Callable[[str], bool]
    ) -> dict[str, Mapping[str, Any]]:
        """The items of some ids, each from the newest response that it is part of.

        Args:
            wanted: The ids; those that are not there are left out.
            may_see: Whether what an owner has left may be used.

        Raises:
            InvalidRequest: What they are part of is too much to be read.
            LogUnreadable: The file can't be used.
        """
        found: dict[str, Mapping[str, Any]] = {}
        n_bytes = 0
        with self._using() as sql:
            for each in wanted:
                holder = None if each in found else self._holder(sql, each, may_see)
                if holder is None:
                    continue
                n_bytes += self._size(sql, holder.id)
                if n_bytes > MAX_CHAIN_BYTES:
                    raise InvalidRequest(
                        "what is referred to is part of too long responses",
                        param="input",
                        hint="send the items themselves",
                    )
                # A conversation's items stand together: one response has several of them.
                for item in reversed(holder.said()):
                    if item.get("id") in wanted:
                        found.setdefault(item["id"], item)
        return found

    def delete(self, response_id: str) -> None:
        """Keep a response no longer.

        Raises:
            LogUnreadable: The file can't be used.
        """
        with self._writing() as sql:
            sql.execute("DELETE FROM responses WHERE id = ?", (response_id,))
        with self._using() as sql:
            # Till then the write-ahead log still has what was deleted.
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _found(self, sql: sqlite3.Connection, response_id: str) -> KeptResponse | None:
        asked = (
            "SELECT id, owner, previous_id, root_id, response, items FROM responses"
            " WHERE id = ? AND used_at >= ?"
        )
        row = sql.execute(asked, (response_id, self._clock() - self._keep_s)).fetchone()
        if row is None:
            return None
        own_id, owner, previous_id, root_id, response, items = row
        return KeptResponse(
            id=own_id,
            owner=owner,
            previous_id=previous_id,
            root_id=root_id,
            response=json.loads(response),
            items=json.loads(items),
        )

    def _holder(
        self, sql: sqlite3.Connection, item_id: str, may_see: Callable[[str], bool]
    ) -> KeptResponse | None:
        asked = (
            "SELECT responses.id, owner FROM items JOIN responses ON responses.id = response_id"
            " WHERE items.id = ? ORDER BY responses.rowid DESC"
        )
        for response_id, owner in sql.execute(asked, (item_id,)):
            if may_see(owner):
                return self._found(sql, response_id)
        return None

    def _size(self, sql: sqlite3.Connection, response_id: str) -> int:
        asked = "SELECT size FROM responses WHERE id = ?"
        size: int = sql.execute(asked, (response_id,)).fetchone()[0]
        return size

    def _shrink(self, sql: sqlite3.Connection) -> None:
        (total,) = sql.execute("SELECT size FROM total").fetchone()
        oldest = "SELECT id, size FROM responses ORDER BY used_at, rowid"
        gone: list[tuple[str]] = []
        for own_id, size in sql.execute(oldest):
            if total <= self._max_bytes:
                break
            total -= size
            gone.append((own_id,))
        sql.executemany("DELETE FROM responses WHERE id = ?", gone)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as sql:
            sql.execute("BEGIN IMMEDIATE")
            try:
                yield sql
            except BaseException:
                sql.rollback()
                raise
            sql.commit()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                if self._connection is None:
                    self._connection = opened(self._path)
                yield self._connection
        except (sqlite3.Error, OSError) as exc:
            raise LogUnreadable(
                f"the kept responses in `{self._path}` can't be used: {exc}",
                hint="make its folder writable; a file that is damaged may be deleted",
            ) from exc
