"""The judgements of a round as data sets, as they were when the round began: a folder.

dpo/           pairs: what is learned from, and what is held out
kto/           single answers, likewise
alone.jsonl    liked answers outside of what is held out, where no pair is: learning by pairs never
               sees them, so they show what it spoils
learned.txt    threads and prompts that are not held out, by their keys
ratings.jsonl  which records of the log they come from
snapshot.json  counts

A round that is taken up again learns from this, whatever was rated since.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidData
from qwenkit.feedback.datasets.export import export_dataset
from qwenkit.feedback.datasets.options import ExportOptions, Split
from qwenkit.feedback.datasets.report import ExportReport
from qwenkit.feedback.datasets.rows import json_line
from qwenkit.feedback.datasets.scratch import CONTRARY
from qwenkit.feedback.datasets.votes import NO_MAJORITY
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import Query
from qwenkit.improve.check import Counts, Method, check
from qwenkit.improve.learned import write_learned
from qwenkit.improve.options import ImproveOptions
from qwenkit.improve.ratings import Ratings, write_ratings
from qwenkit.improve.steps import key_of
from qwenkit.models.atomic import atomic_file, atomic_folder
from qwenkit.models.checkpoint import read_json
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.run_folder import write_json

METHODS: tuple[Method, ...] = ("dpo", "kto")
RATINGS, FACTS = "ratings.jsonl", "snapshot.json"
ALONE, LEARNED = "alone.jsonl", "learned.txt"
STEP = 0.05
LARGEST_SHARE = 0.5
MAX_ALONE = 64
"""Prompts beside those that are held out which are answered to see what is spoilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a round learns from.

    Args:
        folder: Where it lies.
        ratings: The judgements.
        held_out: Share that was held out.
        counts: What they came to.
        exports: What each export said, by method.
    """

    folder: Path
    ratings: Ratings
    held_out: float
    counts: Counts
    exports: Mapping[str, Any]

    def data(self, method: str, split: Split) -> Path:
        """Rows of a method."""
        return _file(self.folder / method, split)

    @property
    def alone(self) -> Path:
        """Liked answers that learning by pairs never sees, as rows of `kto`."""
        return self.folder / ALONE


def take_snapshot(
    index: FeedbackIndex,
    query: Query,
    options: ImproveOptions,
    target: Path,
    *,
    learned: Collection[bytes] = (),
    progress: ProgressFactory = silent,
) -> Snapshot:
    """Write the judgements down as they are now.

    Args:
        index: Of the log; refreshed by the caller.
        query: Which answers are looked at.
        options: The choices of the round.
        target: Folder to make, whole or not at all.
        learned: Keys of what earlier rounds learned from; none of it is held out.
        progress: Counts answers and rows of the first split; others are tried where it held out
            too little, which is little work.
    """
    with atomic_folder(target) as partial:

        def split_at(share: float, progress: ProgressFactory = silent) -> dict[str, Any]:
            return _split(index, query, options, partial, share, learned, progress)

        ratings = write_ratings(index, query, partial / RATINGS, progress=progress)
        first, *larger = shares(options.held_out)
        split = split_at(first, progress)
        for share in larger:
            if _is_enough(split, options):
                break
            split = split_at(share)
        if not _is_enough(split, options):
            split = split_at(first)
        write_json(partial / FACTS, {"ratings": asdict(ratings)} | split)
    return read_snapshot(target)


def read_snapshot(folder: Path) -> Snapshot:
    """What `take_snapshot` wrote.

    Raises:
        ModelCorrupt: It is damaged.
    """
    facts = read_json(folder / FACTS)
    return Snapshot(
        folder=folder,
        ratings=Ratings(**facts["ratings"]),
        held_out=facts["held_out"],
        counts=Counts(**facts["counts"]),
        exports=facts["exports"],
    )


def shares(wanted: float) -> list[float]:
    """Shares to hold out: the one that is wanted, and larger ones up to a half.

    Which threads are held out is chance, and few of them may come to too little. Those that a
    smaller share holds out a larger one does too.
    """
    larger = (wanted + STEP * n for n in range(1, 10))
    return [wanted, *(share for share in larger if share <= LARGEST_SHARE)]


def _split(
    index: FeedbackIndex,
    query: Query,
    options: ImproveOptions,
    folder: Path,
    share: float,
    learned: Collection[bytes],
    progress: ProgressFactory,
) -> dict[str, Any]:
    """Export for each method; returns what came of it, as the file of facts has it."""
    reports = {
        method: _export(
            index, _export_options(method, query, options, share), folder, learned, progress
        )
        for method in METHODS
    }
    return {
        "held_out": share,
        "counts": asdict(_counts(folder, reports, _write_alone(folder))),
        "exports": {method: report.as_json() for method, report in reports.items()},
    }


def _is_enough(split: Mapping[str, Any], options: ImproveOptions) -> bool:
    return check(Counts(**split["counts"]), options).method is not None


def _export(
    index: FeedbackIndex,
    options: ExportOptions,
    folder: Path,
    learned: Collection[bytes],
    progress: ProgressFactory,
) -> ExportReport:
    """Export what a method learns from; where nothing is, that is a finding and no failure."""
    try:
        return export_dataset(
            index,
            options,
            folder / options.format,
            progress,
            learned=learned,
            on_train_keys=lambda keys: write_learned(keys, folder / LEARNED),
        )
    except InvalidData:
        return ExportReport(format=options.format, rows={}, left_out={}, n_answers=0, n_prompts=0)


def _export_options(
    method: Method, query: Query, options: ImproveOptions, share: float
) -> ExportOptions:
    return ExportOptions(
        format=method,
        thinking=options.thinking,
        validation_share=share,
        seed=options.seed,
        filters=query,
    )


def _write_alone(folder: Path) -> int:
    """Write what pairs don't teach, no more than can be asked; returns how many prompts it is."""
    begins = {_begin(row) for row in _rows(folder / "dpo", "train")}
    disliked = {_prompt(row) for row in _rows(folder / "kto", "train") if not row["label"]}
    alone: dict[str, list[str]] = {}
    for row in _rows(folder / "kto", "train"):
        if row["label"] and _prompt(row) not in disliked and _begin(row) not in begins:
            alone.setdefault(_prompt(row), []).append(json_line(row) + "\n")
    chosen = sorted(alone, key=key_of)[:MAX_ALONE]
    with atomic_file(folder / ALONE) as partial, partial.open("w", encoding="utf-8") as file:
        for prompt in chosen:
            file.writelines(alone[prompt])
    return len(chosen)


def _begin(row: Mapping[str, Any]) -> str:
    """All up to what a person says first: turns of one conversation have it in common."""
    messages = row["prompt"]
    n = next(
        (n for n, each in enumerate(messages, start=1) if each["role"] == "user"), len(messages)
    )
    return json.dumps(messages[:n], sort_keys=True)


def _prompt(row: Mapping[str, Any]) -> str:
    return json.dumps(row["prompt"], sort_keys=True)


def _counts(folder: Path, reports: Mapping[Method, ExportReport], n_alone: int) -> Counts:
    labels = {split: list(_labels(folder / "kto", split)) for split in ("train", "validation")}
    pairs, kto = reports["dpo"], reports["kto"]
    return Counts(
        n_pairs=pairs.by_split.get("train", 0),
        n_held_out_pairs=pairs.by_split.get("validation", 0),
        n_liked=sum(labels["train"]),
        n_disliked=len(labels["train"]) - sum(labels["train"]),
        n_held_out_liked=sum(labels["validation"]),
        n_held_out_disliked=len(labels["validation"]) - sum(labels["validation"]),
        n_held_out_alone=_n_held_out_alone(folder / "kto"),
        n_alone=n_alone,
        n_chosen_longer=sum(
            _length(row["chosen"]) > _length(row["rejected"])
            for row in _rows(folder / "dpo", "train")
        ),
        n_contradicted=pairs.left_out.get(NO_MAJORITY, 0) + pairs.left_out.get(CONTRARY, 0),
        left_out={"dpo": dict(pairs.left_out), "kto": dict(kto.left_out)},
    )


def _n_held_out_alone(folder: Path) -> int:
    """Held-out prompts with liked answers and without disliked ones."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for row in _rows(folder, "validation"):
        found[bool(row["label"])].add(_prompt(row))
    return len(found[True] - found[False])


def _labels(folder: Path, split: str) -> Iterator[bool]:
    return (bool(row["label"]) for row in _rows(folder, split))


def _rows(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    path = _file(folder, split)
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def _file(folder: Path, split: str) -> Path:
    return folder / "data" / f"{split}.jsonl"


def _length(answer: Any) -> int:
    """Characters of an answer, which is text or the assistant's message, alone or in a list."""
    if isinstance(answer, str):
        return len(answer)
    messages = [answer] if isinstance(answer, Mapping) else answer
    return sum(len(message.get("content") or "") for message in messages)
