"""What the MCP server tells admins of the log: two tools, and documents a day and an answer.

A model reads what comes of it, so it is short: a search gives questions and answers, the document
of an answer has the rest of it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from mcp_types import CallToolResult, Resource, ResourceTemplate, TextContent, Tool, ToolAnnotations
from pydantic import Field

from qwenkit.feedback.catching_up import question_of
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.query import Page, Query, RatedAnswer
from qwenkit.feedback.records import as_json
from qwenkit.mcp.server.offer import Host, OnTokens
from qwenkit.mcp.server.tools import Arguments, OfferedTool, arguments_schema

URI = "qwenkit://log/"
ANSWER_URI = f"{URI}answers/"
JSON_LINES = "application/x-ndjson"
MAX_DAYS = 31
"""Days that are listed; older ones can be read all the same."""
MAX_OF_A_DAY = 200
"""Answers of a day that its document has; `search_feedback` finds the others."""
MAX_ROWS = 1000
MAX_SHOWN = 4000
"""Characters of a question or an answer in what a search gives."""

Thumb: TypeAlias = Literal["up", "down"]
Scale: TypeAlias = Annotated[int, Field(ge=1, le=5)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000)]


class Feedback(Protocol):
    """Whoever has the log."""

    async def search(self, query: Query) -> Page:
        """A page of the answers that a query asks for, newest first.

        Raises:
            QwenkitError: That can't be told.
        """

    async def answer(self, answer_id: str) -> RatedAnswer | None:
        """One answer.

        Raises:
            QwenkitError: That can't be told.
        """

    async def days(self, limit: int) -> tuple[tuple[str, int], ...]:
        """The last days with answers, newest first, and how many there are.

        Raises:
            QwenkitError: That can't be told.
        """

    async def rows(self, options: ExportOptions, limit: int) -> tuple[str, ...]:
        """The first rows of a data set, a JSON line each.

        Raises:
            QwenkitError: They can't be made.
        """


class _FilterArguments(Arguments):
    thread_id: Text | None = None
    """Only answers in this conversation."""
    model: Text | None = None
    """Only this model's answers."""
    adapter: Annotated[str, Field(max_length=256)] | None = None
    """Only answers with this adapter; empty is without any."""
    rater: Text | None = None
    """Only answers that this person rated."""
    thumb: Thumb | None = None
    """Only answers with this thumb."""
    min_scale: Scale | None = None
    """Only answers rated at least this, from 1 to 5."""
    max_scale: Scale | None = None
    """Only answers rated at most this, from 1 to 5."""
    since: Text | None = None
    """Only answers since this day or moment: `2026-11-25` or `2026-11-25T14:00:00Z`."""
    until: Text | None = None
    """Only answers before this day or moment."""
    text: Text | None = None
    """Only answers with this in them or in their question."""

    def query(self, **more: Any) -> Query:
        """What is asked for.

        Raises:
            InvalidRequest: Something can't be asked.
        """
        names = _FilterArguments.model_fields
        return Query(**{name: getattr(self, name) for name in names}, **more)


class SearchArguments(_FilterArguments):
    """The arguments of `search_feedback`."""

    rated: bool | None = None
    """True is only rated answers, false only others."""
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    """Most answers."""
    cursor: Text | None = None
    """`next_cursor` of the search before, for the answers that follow."""


class ExportArguments(_FilterArguments):
    """The arguments of `export_feedback`."""

    format: Literal["dpo", "kto", "ppo", "trlx", "sft", "reward"]
    """What the rows are for: `dpo` and `reward` are pairs, `kto` is labelled, `ppo` and `trlx` have
    rewards, `sft` are answers to imitate."""
    thinking: Literal["keep", "strip"] = "keep"
    """Whether the answers' reasoning is in them."""
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 100
    """Most rows."""


@dataclass(frozen=True, slots=True)
class LogOffers:
    """The log as tools and documents.

    Args:
        feedback: Has it.
    """

    feedback: Feedback

    def tools(self) -> tuple[OfferedTool, ...]:
        """The tools; for admins."""
        return (
            OfferedTool(tool=_SEARCH, arguments=SearchArguments, run=self._search, for_admins=True),
            OfferedTool(tool=_EXPORT, arguments=ExportArguments, run=self._export, for_admins=True),
        )

    def templates(self) -> list[ResourceTemplate]:
        """How the documents are addressed."""
        return [
            ResourceTemplate(
                uri_template=URI + "{day}",
                name="log-day",
                title="The log of a day",
                description=f"The newest {MAX_OF_A_DAY} answers of a day such as 2026-11-25, with "
                "their ratings, a JSON object a line.",
                mime_type=JSON_LINES,
            ),
            ResourceTemplate(
                uri_template=ANSWER_URI + "{id}",
                name="log-answer",
                title="An answer in the log",
                description="All that is known of an answer: conversation, tools, sampling, "
                "reasoning, ratings.",
                mime_type="application/json",
            ),
        ]

    async def resources(self) -> list[Resource]:
        """The last days, as documents."""
        return [
            Resource(
                uri=URI + day,
                name=f"log-{day}",
                title=f"The log of {day}",
                description=f"{n_answers} answers",
                mime_type=JSON_LINES,
            )
            for day, n_answers in await self.feedback.days(MAX_DAYS)
        ]

    async def document(self, uri: str) -> tuple[str, str] | None:
        """A document's text and type; None where there is none at that address.

        Raises:
            QwenkitError: It can't be told.
        """
        if uri.startswith(ANSWER_URI):
            answer = await self.feedback.answer(uri.removeprefix(ANSWER_URI))
            return None if answer is None else (_json(whole(answer)), "application/json")
        day = _day(uri.removeprefix(URI)) if uri.startswith(URI) else None
        if day is None:
            return None
        query = Query(
            since=day.isoformat(),
            until=(day + timedelta(days=1)).isoformat(),
            limit=MAX_OF_A_DAY,
        )
        page = await self.feedback.search(query)
        return "".join(f"{_json(whole(each))}\n" for each in page.items), JSON_LINES

    async def _search(self, _: Host, given: SearchArguments, __: OnTokens) -> CallToolResult:
        query = given.query(rated=given.rated, limit=given.limit, cursor=given.cursor)
        page = await self.feedback.search(query)
        found = {"answers": [*map(_brief, page.items)], "next_cursor": page.next_cursor}
        return _told(_json(found), found)

    async def _export(self, _: Host, given: ExportArguments, __: OnTokens) -> CallToolResult:
        options = ExportOptions(
            format=given.format,
            thinking=given.thinking,
            validation_share=0.0,
            filters=given.query(),
        )
        # One more than asked for tells whether there are more.
        rows = await self.feedback.rows(options, given.limit + 1)
        shown = rows[: given.limit]
        counted = {"n_rows": len(shown), "has_more": len(rows) > len(shown)}
        text = "\n".join(shown) or "no rows: too few ratings for this format"
        return _told(text, {**counted, "rows": [json.loads(row) for row in shown]})


def whole(answer: RatedAnswer) -> dict[str, Any]:
    """All that is known of an answer."""
    return {**as_json(answer.interaction), "ratings": [*map(as_json, answer.ratings)]}


def _brief(answer: RatedAnswer) -> dict[str, Any]:
    asked = answer.interaction
    return {
        "id": asked.id,
        "created_at": asked.created_at,
        "model": asked.model,
        "adapter": None if asked.adapter is None else asked.adapter.name,
        "thread_id": asked.thread_id,
        "question": _cut(question_of(asked)),
        "answer": None if asked.answer is None else _cut(asked.answer.content),
        "finish_reason": asked.finish_reason,
        "ratings": [_brief_rating(as_json(each)) for each in answer.ratings],
    }


def _brief_rating(rating: dict[str, Any]) -> dict[str, Any]:
    names = ("rater", "created_at", "thumb", "scale", "comment", "compared", "edited")
    return {name: rating[name] for name in names if rating[name] is not None}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + " …"


def _day(text: str) -> date | None:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _told(text: str, structured: dict[str, Any]) -> CallToolResult:
    content = TextContent(type="text", text=text)
    return CallToolResult(content=[content], structured_content=structured)


_READS_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_SEARCH = Tool(
    name="search_feedback",
    title="Search the log",
    description="Finds answers that the model gave, newest first, with what people thought of "
    "them.",
    input_schema=arguments_schema(SearchArguments),
    output_schema={
        "type": "object",
        "properties": {
            "answers": {"type": "array", "items": {"type": "object"}},
            "next_cursor": {"type": ["string", "null"]},
        },
        "required": ["answers", "next_cursor"],
    },
    annotations=_READS_ONLY,
)
_EXPORT = Tool(
    name="export_feedback",
    title="Make a data set of ratings",
    description="Turns rated answers into rows to train with, a JSON object a line. Long data "
    "sets are better made with `qwenkit feedback export`.",
    input_schema=arguments_schema(ExportArguments),
    output_schema={
        "type": "object",
        "properties": {
            "n_rows": {"type": "integer"},
            "has_more": {"type": "boolean"},
            "rows": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["n_rows", "has_more", "rows"],
    },
    annotations=_READS_ONLY,
)
