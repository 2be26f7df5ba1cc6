"""The log that `qwenkit feedback` reads, and the flags that say which of its answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from qwenkit.cli import console
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.feedback.index import FeedbackIndex, IndexReport
    from qwenkit.feedback.log import FeedbackLog

Since: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only answers since this day or moment, as 2026-11-25."),
]
Until: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only answers before this day or moment.")
]
Model: TypeAlias = Annotated[
    str | None, typer.Option("--from-model", metavar="NAME", help="Only this model's answers.")
]
Adapter: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--from-adapter", metavar="NAME", help="Only answers with this adapter; '' is without any."
    ),
]
Rater: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only what this person said.")
]
Thread: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ID", help="Only answers in this conversation.")
]


@contextmanager
def open_index(settings: Settings) -> Iterator[FeedbackIndex]:
    """The log's index, up to date.

    Raises:
        InvalidData: There is no log.
    """
    from qwenkit.errors import InvalidData
    from qwenkit.feedback.index import FeedbackIndex
    from qwenkit.feedback.log import FOLDER

    folder = settings.log_dir / FOLDER
    if not folder.is_dir():
        raise InvalidData(
            f"there is no log in `{folder}`",
            hint="serve or chat and rate answers, or name another folder with --log-dir",
        )
    index = FeedbackIndex(folder)
    try:
        _note_skipped(index.refresh(console.progress))
        yield index
    finally:
        index.close()


def log_of(settings: Settings) -> FeedbackLog | None:
    """The log that the settings ask for; None where they want none.

    Raises:
        InvalidSettings: The patterns of what is taken out can't be used.
    """
    from qwenkit.feedback.log import FOLDER, FeedbackLog
    from qwenkit.feedback.redaction import redactor
    from qwenkit.settings import LogAnswers

    if settings.log_answers is LogAnswers.OFF:
        return None
    return FeedbackLog(
        settings.log_dir / FOLDER,
        redact=redactor(settings.log_redact, file=settings.log_redact_file),
        content=settings.log_answers is LogAnswers.FULL,
        keep_days=settings.log_keep_days,
        max_bytes=settings.log_max_mb * 2**20,
    )


@contextmanager
def open_log(settings: Settings) -> Iterator[FeedbackLog]:
    """The log, to write ratings to that come from elsewhere.

    Raises:
        InvalidSettings: Nothing is kept, or the patterns of what is taken out can't be used.
    """
    from qwenkit.errors import InvalidSettings

    log = log_of(settings)
    if log is None:
        raise InvalidSettings("nothing is kept: LOG_ANSWERS is off", hint="set it to full")
    try:
        yield log
    finally:
        log.close()


def _note_skipped(report: IndexReport) -> None:
    if not report.n_skipped:
        return
    lines = "1 line is" if report.n_skipped == 1 else f"{report.n_skipped:,} lines are"
    first = report.skipped[0]
    console.note(f"{lines} no record; the first, {first.file.name}:{first.line}, {first.why}")
