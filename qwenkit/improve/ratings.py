"""Which judgements a round learns from: ids and hashes of the log's records, so that it can be told
later which ratings made which adapter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import Query, RatedAnswer
from qwenkit.feedback.records import encode
from qwenkit.improve.steps import N_HEX
from qwenkit.models.atomic import atomic_file
from qwenkit.models.progress import ProgressFactory, silent

_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """The judgements of a round.

    Args:
        digest: Short hash of all of them and of the answers they judge, whatever their order.
        n_answers: Answers that were judged.
        n_ratings: Judgements that count.
    """

    digest: str
    n_answers: int
    n_ratings: int


def digest_ratings(
    index: FeedbackIndex, query: Query, *, progress: ProgressFactory = silent
) -> Ratings:
    """Which judgements there are now.

    Args:
        index: Of the log; refreshed by the caller.
        query: Which answers are looked at.
        progress: Counts answers.
    """
    return _gathered(_records(index, query), progress)


def write_ratings(
    index: FeedbackIndex, query: Query, target: Path, *, progress: ProgressFactory = silent
) -> Ratings:
    """Write a line for each judged answer: its id, its ratings' ids, and a hash of each record.

    Args:
        index: Of the log; refreshed by the caller.
        query: Which answers are looked at.
        target: JSON lines; whole or not there.
        progress: Counts answers.
    """
    with atomic_file(target) as partial, partial.open("w", encoding="utf-8") as file:

        def written() -> Iterator[dict[str, Any]]:
            for record in _records(index, query):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                yield record

        return _gathered(written(), progress)


def _gathered(records: Iterator[dict[str, Any]], progress: ProgressFactory) -> Ratings:
    total, n_answers, n_ratings = 0, 0, 0
    with progress("reading ratings", total=None, unit="answers") as advance:
        for record in records:
            # A sum does not depend on the order, and takes no memory.
            total = (total + int(_hash(json.dumps(record)), 16)) % _MODULUS
            n_answers += 1
            n_ratings += len(record["ratings"])
            advance(1)
    return Ratings(digest=_hash(f"{total:x}")[:N_HEX], n_answers=n_answers, n_ratings=n_ratings)


def _records(index: FeedbackIndex, query: Query) -> Iterator[dict[str, Any]]:
    for rated in index.answers(replace(query, rated=True)):
        yield _record(rated, query.rater)


def _record(rated: RatedAnswer, rater: str | None) -> dict[str, Any]:
    adapter = rated.interaction.adapter
    return {
        "answer": rated.interaction.id,
        "sha256": _hash(encode(rated.interaction)),
        "adapter": adapter.version if adapter is not None else None,
        "ratings": [
            {"id": rating.id, "sha256": _hash(encode(rating))}
            for rating in sorted(rated.ratings, key=lambda rating: rating.id)
            if rater in (None, rating.rater)
        ],
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
