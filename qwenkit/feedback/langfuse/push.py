"""The log goes to Langfuse: what was written since the last time, or all of it. Also datasets.

Where the last push ended stands beside the log, by project: a file of the log and a place in it. A
push that is cut off goes on from there; what is sent twice takes its own place in Langfuse.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidRecord, LogUnreadable, LogUnwritable
from qwenkit.feedback.datasets.rows import Row
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.langfuse.client import LangfuseClient, Refused
from qwenkit.feedback.langfuse.history import history_of
from qwenkit.feedback.langfuse.observations import (
    Labels,
    Observation,
    observe_answer,
    observe_tool,
)
from qwenkit.feedback.langfuse.scores import SOURCE, Score, judgement
from qwenkit.feedback.reader import lines, record_of
from qwenkit.feedback.records import Interaction, Rating, Record, ToolRun
from qwenkit.feedback.segments import segments
from qwenkit.models.atomic import atomic_file
from qwenkit.models.progress import ProgressFactory, silent

MARK_FILE = "langfuse.json"
N_TOGETHER = 64
"""Records that are read before they are sent."""
MAX_SCORES = 50
"""Scores that are sent together."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the log, after what was sent.

    Args:
        file: The name of a file of the log.
        offset: Bytes of it.
    """

    file: str
    offset: int


@dataclass(slots=True, kw_only=True)
class PushReport:
    """What a push did.

    Args:
        n_answers: Answers sent.
        n_tool_runs: Runs of tools sent.
        n_scores: Scores sent.
        n_deleted: Scores deleted that no longer count.
        n_from_langfuse: Ratings that came from there, and were not sent.
        left_out: Records that were not sent, by the reason.
        refused: Scores that Langfuse did not take.
    """

    n_answers: int = 0
    n_tool_runs: int = 0
    n_scores: int = 0
    n_deleted: int = 0
    n_from_langfuse: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)


class Marks:
    """Where the last push of each project ended.

    Args:
        folder: The log's.
        project: What tells a project from others; no secret.
    """

    def __init__(self, folder: Path, project: str) -> None:
        self._path = folder / MARK_FILE
        self._project = project

    def load(self) -> Place | None:
        """Where it ended; None where there was none.

        Raises:
            LogUnreadable: The file is damaged.
        """
        found = self._all().get(self._project)
        try:
            return None if found is None else Place(str(found["file"]), int(found["offset"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise self._damaged() from exc

    def save(self, place: Place) -> None:
        """Note where it ended now.

        Raises:
            LogUnreadable: The file is damaged.
            LogUnwritable: It can't be written.
        """
        marks = self._all() | {self._project: {"file": place.file, "offset": place.offset}}
        try:
            with atomic_file(self._path) as path:
                path.write_text(json.dumps(marks, indent=2, sort_keys=True), encoding="utf-8")
        except OSError as exc:
            raise LogUnwritable(
                f"`{self._path}` can't be written: {exc.strerror}",
                hint="the next push sends all of this again, which does no harm",
            ) from exc

    def _all(self) -> dict[str, Any]:
        try:
            marks = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise self._damaged() from exc
        if not isinstance(marks, dict):
            raise self._damaged()
        return marks

    def _damaged(self) -> LogUnreadable:
        return LogUnreadable(
            f"`{self._path}` can't be read", hint="delete it: the next push sends all again"
        )


def push_log(
    index: FeedbackIndex,
    client: LangfuseClient,
    *,
    labels: Labels,
    marks: Marks,
    everything: bool = False,
    progress: ProgressFactory = silent,
) -> PushReport:
    """Send what the log has.

    Args:
        index: Of the log; refreshed by the caller.
        client: The project.
        labels: What every observation carries.
        marks: Where the last push ended; set to where this one does.
        everything: Send what was sent before, too.
        progress: Counts bytes of the log.

    Raises:
        InvalidSettings: Langfuse refuses the keys.
        RemoteError: It refuses what it is sent.
        RemoteUnreachable: It does not answer.
        LogUnreadable: The log or the mark can't be read.
        LogUnwritable: The mark can't be written.
    """
    folder = index.folder
    begin = None if everything else marks.load()
    report = PushReport()
    sent: Place | None = None
    total = sum(_size(path) - offset for path, offset in _files(folder, begin))
    try:
        with progress("Push", total=total) as advance:
            for batch in _batches(_read(folder, begin, report)):
                _send(batch, index, client, labels, report)
                before, sent = sent, batch[-1].place
                advance(_distance(before, sent, begin))
    finally:
        if sent is not None:
            marks.save(sent)
    return report


def push_rows(
    rows: Iterable[Row],
    index: FeedbackIndex,
    client: LangfuseClient,
    *,
    name: str,
    format: str,  # noqa: A002 - as `ExportOptions` has it
    options: Mapping[str, Any],
    progress: ProgressFactory = silent,
) -> int:
    """Make exported rows a dataset's items; returns how many there are.

    An item is its row's content: rows that are pushed again are not there twice, and what is no
    longer exported stays.

    Args:
        rows: In order.
        index: Of the log that they come from.
        client: The project.
        name: The dataset's.
        format: What the rows are for.
        options: What they were exported with, for the dataset's metadata.
        progress: Counts rows.

    Raises:
        InvalidSettings: Langfuse refuses the keys.
        RemoteError: It refuses what it is sent.
        RemoteUnreachable: It does not answer.
    """
    description = f"{format} rows from qwenkit's log of answers and ratings"
    client.create_dataset(name, description=description, metadata=dict(options))
    n_items = 0
    with progress(f"Dataset {name}", total=None, unit="rows") as advance:
        for row in rows:
            client.put_item(dataset_item(name, row, index))
            n_items += 1
            advance(1)
    return n_items


def dataset_item(dataset: str, row: Row, index: FeedbackIndex) -> dict[str, Any]:
    """A row as an item: what was asked, what is a good answer, and the rest as metadata."""
    data = dict(row.data)
    asked = _asked(data)
    tools = json.loads(data.pop("tools", "[]"))
    expected = _expected(data)
    item = {
        "id": ids.item_id(dataset, row.line()),
        "datasetName": dataset,
        "input": {"messages": asked, "tools": tools} if tools else asked,
        "expectedOutput": expected,
        "metadata": {"split": row.split, **data},
    }
    return item | _source(data, index)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A record and the place behind it."""

    record: Record
    place: Place


def _asked(data: dict[str, Any]) -> Any:
    """The prompt, taken out of a row's fields; of a sample of texts it is the first."""
    for name in ("prompt", "query"):
        if name in data:
            return data.pop(name)
    return data["sample"][0] if "sample" in data else None


def _expected(data: dict[str, Any]) -> Any:
    """The good answer, taken out of a row's fields; None where the row does not say which is."""
    for name in ("chosen", "completion"):
        if name in data and data.get("label", True):
            good = data.pop(name)
            return good[0] if isinstance(good, list) and len(good) == 1 else good
    return None


def _source(data: Mapping[str, Any], index: FeedbackIndex) -> dict[str, str]:
    """The trace that a row comes from, where the log still has it."""
    answers = data.get("answers") or ()
    found = index.answer(answers[0]) if answers else None
    if found is None:
        return {}
    return {
        "sourceTraceId": ids.trace_id(found.interaction),
        "sourceObservationId": ids.answer_observation_id(found.interaction.id),
    }


def _files(folder: Path, begin: Place | None) -> list[tuple[Path, int]]:
    """The files of the log from a place on, and where to begin in each."""
    paths = [each.path for each in segments(folder)]
    names = [each.name for each in paths]
    if begin is None:
        return [(path, 0) for path in paths]
    if begin.file in names:
        later = paths[names.index(begin.file) :]
        return [(path, 0 if number else begin.offset) for number, path in enumerate(later)]
    # The file has been deleted since, for its age: all that is left was written after it, or
    # is sent once more.
    return [(path, 0) for path in paths if path.name[:10] >= begin.file[:10]]


def _size(path: Path) -> int:
    """Bytes of a file of the log; none where it was deleted for its age meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(folder: Path, begin: Place | None, report: PushReport) -> Iterator[_Placed]:
    for path, offset in _files(folder, begin):
        for line in lines(path, offset):
            if line.end is None:
                break
            try:
                record = record_of(line)
            except InvalidRecord:
                report.left_out["a line of the log that can't be read"] += 1
                continue
            if record is not None:
                yield _Placed(record, Place(path.name, line.end))


def _batches(records: Iterable[_Placed]) -> Iterator[list[_Placed]]:
    batch: list[_Placed] = []
    for each in records:
        batch.append(each)
        if len(batch) == N_TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def _distance(before: Place | None, after: Place, begin: Place | None) -> int:
    """Bytes of the log between two places; of a new file only its own."""
    start = before or begin
    if start is not None and start.file == after.file:
        return after.offset - start.offset
    return after.offset


def _send(
    batch: Sequence[_Placed],
    index: FeedbackIndex,
    client: LangfuseClient,
    labels: Labels,
    report: PushReport,
) -> None:
    records = [each.record for each in batch]
    client.send_observations(_observe(records, labels, report))
    ratings = [each for each in records if isinstance(each, Rating)]
    given = [each for each in ratings if each.source != SOURCE]
    report.n_from_langfuse += len(ratings) - len(given)
    # Of an answer that was rated several times everything is sent at once.
    rated = dict.fromkeys(each.answer_id for each in given)
    _send_scores(rated, index, client, labels, report)


def _observe(records: Iterable[Record], labels: Labels, report: PushReport) -> list[Observation]:
    made: list[Observation] = []
    for record in records:
        try:
            match record:
                case Interaction():
                    made.append(observe_answer(record, labels))
                    report.n_answers += 1
                case ToolRun():
                    made.append(observe_tool(record, labels))
                    report.n_tool_runs += 1
        except InvalidRecord:
            report.left_out["a record that has no form in JSON"] += 1
    return made


def _send_scores(
    answers: Iterable[str],
    index: FeedbackIndex,
    client: LangfuseClient,
    labels: Labels,
    report: PushReport,
) -> None:
    scores: list[Score] = []
    for answer_id in answers:
        history = history_of(index, answer_id)
        if history is None:
            report.left_out["a rating of an answer that the log does not have"] += 1
            continue
        now = judgement(history.interaction, history.ratings, labels.environment)
        scores += now.scores
        for score_id in now.stale:
            client.delete_score(score_id)
        report.n_deleted += len(now.stale)
    for start in range(0, len(scores), MAX_SCORES):
        part = scores[start : start + MAX_SCORES]
        refused = client.send_scores(part)
        report.n_scores += len(part) - len(refused)
        report.refused += refused


def project_name(url: str, public_key: str) -> str:
    """What tells a project from others: where it is, and its public key."""
    return f"{url} {public_key}"
