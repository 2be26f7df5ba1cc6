"""Exports: the log's index in, files of rows out. Knows the order of the steps, and none of them.

index → prompt groups → answers and votes → drafts → scratch → rows → files and a card
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from qwenkit.errors import InvalidData, InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.feedback.datasets import card
from qwenkit.feedback.datasets.answers import gather
from qwenkit.feedback.datasets.columns import Type, Variables, columns, prompt_columns
from qwenkit.feedback.datasets.drafts import drafts
from qwenkit.feedback.datasets.files import write_rows
from qwenkit.feedback.datasets.options import FILE_TYPES, SPLITS, ExportOptions, Split
from qwenkit.feedback.datasets.report import ExportReport, Tally
from qwenkit.feedback.datasets.rows import Row
from qwenkit.feedback.datasets.scratch import Scratch
from qwenkit.feedback.datasets.together import split_keys
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import PromptGroup, Query
from qwenkit.feedback.records import Interaction
from qwenkit.models.atomic import atomic_file, atomic_folder
from qwenkit.models.progress import Advance, ProgressFactory, silent

NOT_RATED = "not rated"
BEYOND = "beyond the most answers of one prompt that are looked at"

_AVERAGED = ("ppo", "trlx")
_N_REASONS = 3
_STEP = 1000


@dataclass(slots=True)
class _Gathered:
    """What an export has found before it writes anything."""

    scratch: Scratch
    tally: Tally = field(default_factory=Tally)
    variables: Variables = field(default_factory=Variables)
    n_rows: int = 0


def export_dataset(
    index: FeedbackIndex,
    options: ExportOptions,
    out: Path,
    progress: ProgressFactory = silent,
    *,
    learned: Iterable[bytes] = (),
    on_train_keys: Callable[[Iterator[bytes]], None] = lambda _: None,
) -> ExportReport:
    """Write judged answers as a data set: a folder with a card, or one file.

    A folder gets `data/train.jsonl`, `data/validation.jsonl` and `README.md`, and for `ppo` the
    prompts alone in `prompts/`. It appears whole or not at all, and takes the place of an earlier
    export; a folder of another kind is never replaced.

    Args:
        index: Of the log; refreshed by the caller.
        options: The choices of this export.
        out: A folder to make; or, where it ends in `.jsonl` or `.parquet`, a file to make, which
            holds one split only, so that `validation_share` must be 0.
        progress: Counts answers, then rows.
        learned: Keys of threads and prompts that were learned from, as `on_train_keys` got them at
            an earlier export: nothing that hangs together with them is held out.
        on_train_keys: Gets the keys of all that is not held out.

    Raises:
        InvalidData: Nothing becomes a row; the message says why.
        InvalidSettings: The target can't be replaced, or the options don't fit it.
        MissingExtra: Parquet is wanted and pyarrow isn't installed.
    """
    is_file = out.suffix.removeprefix(".") in FILE_TYPES
    _check_target(out, options, is_file=is_file)
    if options.files == "parquet":
        import_extra("pyarrow", extra="train")
    with _gather(index, options, progress, learned) as gathered:
        if not gathered.n_rows:
            raise InvalidData(_nothing(gathered.tally), hint="qwenkit feedback stats")
        on_train_keys(gathered.scratch.keys("train"))
        if is_file:
            return _write_file(gathered, options, out, progress)
        with atomic_folder(out) as folder:
            return _write_folder(gathered, options, folder, progress)


def iter_rows(
    index: FeedbackIndex, options: ExportOptions, progress: ProgressFactory = silent
) -> Iterator[Row]:
    """The same rows one after another, train first; none where nothing becomes a row."""
    with _gather(index, options, progress) as gathered:
        for split in SPLITS:
            yield from gathered.scratch.rows(split)


@contextmanager
def _gather(
    index: FeedbackIndex,
    options: ExportOptions,
    progress: ProgressFactory,
    learned: Iterable[bytes] = (),
) -> Iterator[_Gathered]:
    wanted = replace(options.filters, rater=None, rated=True)
    with Scratch(averages=options.format in _AVERAGED) as scratch:
        gathered = _Gathered(scratch)
        scratch.keep_in_train(learned)
        _count_unrated(gathered.tally, index, options.filters)
        with progress("reading answers", total=index.count(wanted), unit="answers") as advance:
            n_taken = 0
            for group in index.prompt_groups(wanted):
                _take(gathered, group, options)
                n_taken += len(group.answers)
                if n_taken >= _STEP:
                    advance(n_taken)
                    n_taken = 0
            advance(n_taken)
        gathered.n_rows = scratch.settle(
            validation_share=options.validation_share,
            seed=options.seed,
            left_out=gathered.tally.left_out,
        )
        yield gathered


def _count_unrated(tally: Tally, index: FeedbackIndex, filters: Query) -> None:
    n_unrated = index.count(replace(filters, rater=None, rated=False))
    tally.n_answers += n_unrated
    tally.leave_out(NOT_RATED, n_unrated)


def _take(gathered: _Gathered, group: PromptGroup, options: ExportOptions) -> None:
    """Turn one prompt's answers into drafts."""
    tally, scratch = gathered.tally, gathered.scratch
    tally.n_answers += len(group.answers) + group.n_left_out
    tally.leave_out(BEYOND, group.n_left_out)
    answers = gather(group, options)
    tally.leave_out(NOT_RATED, len(group.answers) - answers.n_judged)
    tally.n_prompts += answers.n_judged > 0
    node = _link(scratch, [each.interaction for each in group.answers])
    for draft in drafts(answers, options, tally.left_out):
        gathered.variables.note(draft.data.get("chat_template_kwargs", {}))
        scratch.add(draft, node)


def _link(scratch: Scratch, answers: Sequence[Interaction]) -> int:
    """Say what hangs together, whatever becomes a row: so splits don't depend on the choices."""
    oldest = min(answers, key=lambda each: (each.created_at, each.id))
    return scratch.link(split_keys(answers), f"{oldest.created_at} {oldest.id}")


def _write_folder(
    gathered: _Gathered, options: ExportOptions, folder: Path, progress: ProgressFactory
) -> ExportReport:
    files = []
    with progress("writing rows", total=gathered.n_rows, unit="rows") as advance:
        for split in SPLITS:
            path = folder / "data" / f"{split}.{options.files}"
            if _write_split(gathered, options, split, path, advance):
                files.append(str(path.relative_to(folder)))
    alone = prompt_columns(options, gathered.variables) if options.format == "ppo" else None
    if alone is not None:
        files += _write_prompts(gathered, options, folder, alone)
    report = gathered.tally.report(options.format, (*files, card.FILE))
    text = card.make_card(report, options, columns(options, gathered.variables), alone)
    (folder / card.FILE).write_text(text, encoding="utf-8")
    return report


def _write_file(
    gathered: _Gathered, options: ExportOptions, out: Path, progress: ProgressFactory
) -> ExportReport:
    with (
        atomic_file(out) as partial,
        progress("writing rows", total=gathered.n_rows, unit="rows") as advance,
    ):
        _write_split(gathered, options, "train", partial, advance)
    return gathered.tally.report(options.format, (out.name,))


def _write_split(
    gathered: _Gathered, options: ExportOptions, split: Split, path: Path, advance: Advance
) -> int:
    """Write a split's rows and count them; returns how many there are."""

    def count(rows: list[Row]) -> None:
        gathered.tally.rows[split].update(row.origin for row in rows)
        advance(len(rows))

    return write_rows(
        gathered.scratch.rows(split),
        path,
        files=options.files,
        columns=columns(options, gathered.variables),
        on_rows=count,
    )


def _write_prompts(
    gathered: _Gathered, options: ExportOptions, folder: Path, types: Mapping[str, Type]
) -> list[str]:
    """Write what stands before the answers; returns the files' names."""
    paths = {split: folder / "prompts" / f"{split}.{options.files}" for split in SPLITS}
    return [
        str(path.relative_to(folder))
        for split, path in paths.items()
        if write_rows(
            gathered.scratch.prompts(split),
            path,
            files=options.files,
            columns=types,
            on_rows=lambda _: None,
        )
    ]


def _check_target(out: Path, options: ExportOptions, *, is_file: bool) -> None:
    if is_file:
        _check_file(out, options)
    elif out.is_dir():
        if any(out.iterdir()) and not _is_export(out):
            raise InvalidSettings(
                f"`{out}` holds other things than an export, and is not replaced",
                hint="name a folder that is new, or empty",
            )
    elif out.exists():
        raise InvalidSettings(f"`{out}` is a file, and a folder is to be made there")


def _check_file(out: Path, options: ExportOptions) -> None:
    if out.suffix != f".{options.files}":
        raise InvalidSettings(f"`{out.name}` is no name for a file of {options.files}")
    if options.validation_share:
        raise InvalidSettings(
            "a file has no room for rows that are held out",
            hint="name a folder, or hold nothing out",
        )
    if out.is_dir():
        raise InvalidSettings(f"`{out}` is a folder, and a file is to be made there")


def _is_export(folder: Path) -> bool:
    path = folder / card.FILE
    return path.is_file() and card.MARK in path.read_text(encoding="utf-8", errors="replace")


def _nothing(tally: Tally) -> str:
    report = tally.report("")
    reasons = list(islice(report.left_out.items(), _N_REASONS))
    why = "; ".join(f"{n:,} {reason}" for reason, n in reasons)
    return f"none of {tally.n_answers:,} answers becomes a row" + (f": {why}" if why else "")
