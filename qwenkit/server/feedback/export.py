"""`/v1/feedback/export`: the log as a file, or as rows to train with. For admins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Depends, Response
from fastapi import Query as Param

from qwenkit.feedback.datasets.export import iter_rows
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import Query
from qwenkit.feedback.records import Record, encode
from qwenkit.server.auth import require_admin
from qwenkit.server.feedback.download import Download
from qwenkit.server.feedback.markdown import markdown
from qwenkit.server.feedback.schema import Selection
from qwenkit.server.feedback.service import Feedback, FeedbackNow
from qwenkit.server.openai.wire import escape_line_ends

router = APIRouter(prefix="/v1/feedback", tags=["feedback"], dependencies=[Depends(require_admin)])

ExportFormat: TypeAlias = Literal["jsonl", "markdown", "dpo", "kto", "ppo", "trlx", "sft", "reward"]
NDJSON = "application/x-ndjson"
MARKDOWN = "text/markdown; charset=utf-8"
_FILES = {media_type: {"schema": {"type": "string"}} for media_type in (NDJSON, "text/markdown")}


@router.get(
    "/export",
    summary="Download the log",
    response_class=Response,
    responses={200: {"content": _FILES}},
)
async def export(
    query: Selection,
    feedback: FeedbackNow,
    format: Annotated[ExportFormat, Param()] = "jsonl",  # noqa: A002
    thinking: Annotated[Literal["keep", "strip"], Param()] = "keep",
    prompts: Annotated[Literal["chat", "raw"], Param()] = "chat",
) -> Response:
    """Streamed, however long it is.

    `jsonl` is the log's own records, `markdown` is for people, and the others are rows to train
    with, as `qwenkit feedback export` makes them.
    """
    options = RowOptions(thinking=thinking, prompts=prompts)
    make = partial(_lines, feedback, query, format, options)
    name, media_type = _file(format)
    return await Download.begun(make, place=feedback.exporting(), name=name, media_type=media_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptions:
    """What a request chooses of the rows to train with."""

    thinking: Literal["keep", "strip"]
    prompts: Literal["chat", "raw"]


def _lines(
    feedback: Feedback,
    query: Query,
    format: ExportFormat,  # noqa: A002
    options: RowOptions,
) -> Iterator[str]:
    index = feedback.index()
    index.refresh()
    if format == "jsonl":
        return _records(index, query)
    if format == "markdown":
        return markdown(index.answers(query))
    chosen = ExportOptions(
        format=format,
        thinking=options.thinking,
        prompts=options.prompts,
        validation_share=0.0,
        filters=query,
    )
    return _rows(index, chosen)


def _records(index: FeedbackIndex, query: Query) -> Iterator[str]:
    for each in index.answers(query):
        runs = index.tool_runs(answer_id=each.interaction.id)
        records: tuple[Record, ...] = (each.interaction, *each.ratings, *runs)
        for record in records:
            yield escape_line_ends(encode(record)) + "\n"


def _rows(index: FeedbackIndex, options: ExportOptions) -> Iterator[str]:
    for row in iter_rows(index, options):
        yield escape_line_ends(row.line()) + "\n"


def _file(format: ExportFormat) -> tuple[str, str]:  # noqa: A002
    if format == "markdown":
        return "qwenkit-feedback.md", MARKDOWN
    kind = "" if format == "jsonl" else f"-{format}"
    return f"qwenkit-feedback{kind}.jsonl", NDJSON
