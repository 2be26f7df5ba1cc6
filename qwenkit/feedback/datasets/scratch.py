"""Rows on their way: compared with all others, split, read back in order. Knows SQL, no formats.

A private database without a name, in the folder for temporary files: it goes when its process goes,
and holds little in memory. Beside it there are four bytes for each different thread and prompt.

    the same row twice       becomes one; of two rewards for one answer, their mean
    a row and its contrary   are both left out
    splits                   threads and prompts that hang together by a rated answer are one part,
                             and a part is never split. The hash of the part's oldest answer, and
                             the seed, decide where it goes: for every format alike, and a larger
                             share holds out all that a smaller one does. What is judged later moves
                             a part only if it joins two, or is older than all that was judged of it
                             before; `keep_in_train` holds against both. Of few parts chance may
                             hold out none.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from qwenkit.errors import InvalidSettings
from qwenkit.feedback.datasets.answers import digest
from qwenkit.feedback.datasets.drafts import Draft
from qwenkit.feedback.datasets.options import Split
from qwenkit.feedback.datasets.rows import Row, json_line

AGAIN = "the same row again"
CONTRARY = "a row that says the contrary of another"

_CACHE_KIB = 32 * 1024
_LEARNED = ""
"""The anchor of what must not be held out; it sorts before all others."""
_TABLES = """
CREATE TABLE keys (id INTEGER PRIMARY KEY, key BLOB UNIQUE);
CREATE TABLE anchors (node INTEGER, anchor TEXT);
CREATE TABLE drafts (
    id INTEGER PRIMARY KEY, key BLOB, value REAL, node INTEGER, origin TEXT, data TEXT
);
CREATE TABLE prompts (id INTEGER PRIMARY KEY, key BLOB UNIQUE, node INTEGER, prompt TEXT);
"""
_SELECT_KEPT = """
SELECT drafts.origin, drafts.data, kept.value, kept.n_values
FROM kept JOIN drafts USING (id) JOIN parts ON parts.root = root_of(drafts.node)
WHERE (parts.rank < ?) = ? ORDER BY id
"""
_SELECT_KEYS = """
SELECT key FROM keys JOIN parts ON parts.root = root_of(keys.id)
WHERE (parts.rank < ?) = ? ORDER BY key
"""
_SELECT_PROMPTS = """
SELECT prompt FROM prompts JOIN parts ON parts.root = root_of(prompts.node)
WHERE (parts.rank < ?) = ? ORDER BY prompts.id
"""


class Scratch:
    """All drafts of an export, on the disk. Use it as a context manager.

    Args:
        averages: Whether two values for one key are averaged; otherwise they contradict each other.
    """

    def __init__(self, *, averages: bool) -> None:
        self._averages = averages
        self._parents = array("I", [0])
        # Streams are read by turns in several threads.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.create_function("root_of", 1, self._root, deterministic=True)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
        self._db.execute("BEGIN")
        self._validation_share = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, _: object) -> None:
        self._db.close()
        if isinstance(exc, sqlite3.OperationalError) and _is_full(exc):
            raise InvalidSettings(
                f"the rows don't fit the disk for temporary files: {exc}",
                hint="set SQLITE_TMPDIR to a folder on a larger disk",
            ) from exc

    def link(self, keys: Sequence[bytes], anchor: str) -> int:
        """Say that threads and prompts hang together.

        Args:
            keys: Of each thread and prompt; at least one.
            anchor: Of the oldest answer among them; sorts as time does.

        Returns:
            What stands for all of them when a draft is added.
        """
        first, *others = (self._node(key) for key in keys)
        for other in others:
            self._join(first, other)
        self._db.execute("INSERT INTO anchors VALUES (?, ?)", (first, anchor))
        return first

    def keep_in_train(self, keys: Iterable[bytes]) -> None:
        """Never hold out what hangs together with one of these, as `keys` gave them earlier."""
        nodes = map(self._node, keys)
        self._db.executemany("INSERT INTO anchors VALUES (?, ?)", ((n, _LEARNED) for n in nodes))

    def add(self, draft: Draft, node: int) -> None:
        """Keep a draft; the order in which they come is the rows' order."""
        self._db.execute(
            "INSERT INTO drafts (key, value, node, origin, data) VALUES (?, ?, ?, ?, ?)",
            (draft.key, draft.value, node, draft.origin, json_line(draft.data)),
        )
        if draft.prompt is not None:
            self._db.execute(
                "INSERT OR IGNORE INTO prompts (key, node, prompt) VALUES (?, ?, ?)",
                (digest(draft.prompt), node, json_line(draft.prompt)),
            )

    def settle(self, *, validation_share: float, seed: int, left_out: Counter[str]) -> int:
        """Compare all drafts with each other and decide on the splits; returns how many stay."""
        n_drafts = self._number("SELECT COUNT(*) FROM drafts")
        self._db.execute("CREATE INDEX by_key ON drafts (key, value)")
        self._db.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, value REAL, n_values INTEGER)")
        self._db.execute(
            "INSERT INTO kept SELECT MIN(id), AVG(value), COUNT(DISTINCT value) FROM drafts "
            "GROUP BY key HAVING ? OR MIN(value) = MAX(value)",
            (self._averages,),
        )
        n_kept = self._number("SELECT COUNT(*) FROM kept")
        n_contrary = self._number(
            "SELECT TOTAL(n) FROM (SELECT COUNT(*) AS n FROM drafts "
            "GROUP BY key HAVING NOT ? AND MIN(value) < MAX(value))",
            self._averages,
        )
        left_out.update({CONTRARY: n_contrary, AGAIN: n_drafts - n_contrary - n_kept})
        self._validation_share = validation_share
        self._rank_parts(seed)
        return n_kept

    def rows(self, split: Split) -> Iterator[Row]:
        """The rows of a split, in order."""
        for origin, data, value, n_values in self._of(_SELECT_KEPT, split):
            fields = json.loads(data)
            if n_values > 1:
                fields["reward"] = value
            yield Row(split, origin, fields)

    def prompts(self, split: Split) -> Iterator[Row]:
        """What stands before the answers of a split, each once, in order."""
        for (prompt,) in self._of(_SELECT_PROMPTS, split):
            yield Row(split, "", json.loads(prompt))

    def keys(self, split: Split) -> Iterator[bytes]:
        """The keys of a split's threads and prompts, in order."""
        return (bytes(key) for (key,) in self._of(_SELECT_KEYS, split))

    def _of(self, query: str, split: Split) -> Iterator[Any]:
        return self._db.execute(query, (self._validation_share, split == "validation"))

    def _rank_parts(self, seed: int) -> None:
        self._db.execute("CREATE TABLE parts (root INTEGER PRIMARY KEY, rank REAL)")
        parts = self._db.execute(
            "SELECT root_of(node) AS root, MIN(anchor) FROM anchors GROUP BY 1"
        )
        self._db.executemany(
            "INSERT INTO parts VALUES (?, ?)",
            ((root, _rank(anchor, seed)) for root, anchor in parts),
        )

    def _node(self, key: bytes) -> int:
        found = self._db.execute("SELECT id FROM keys WHERE key = ?", (key,)).fetchone()
        if found:
            return int(found[0])
        self._db.execute("INSERT INTO keys (key) VALUES (?)", (key,))
        self._parents.append(len(self._parents))
        return len(self._parents) - 1

    def _root(self, node: int) -> int:
        parents = self._parents
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    def _join(self, one: int, other: int) -> None:
        roots = sorted((self._root(one), self._root(other)))
        self._parents[roots[1]] = roots[0]

    def _number(self, query: str, *values: object) -> int:
        return int(self._db.execute(query, values).fetchone()[0])


def _rank(anchor: str, seed: int) -> float:
    """A number from 0 to 1 that an answer has with a seed, always the same; 1 if learned from."""
    if anchor == _LEARNED:
        return 1.0
    digest = hashlib.sha256(f"{seed}:{anchor}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _is_full(exc: sqlite3.OperationalError) -> bool:
    return exc.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
