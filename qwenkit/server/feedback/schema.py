"""What clients send about answers, and how they ask for them. Pure data, and one rule of sense."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends
from fastapi import Query as Param
from pydantic import BaseModel, ConfigDict, Field

from qwenkit.errors import InvalidRequest
from qwenkit.feedback.query import MAX_PAGE, Query
from qwenkit.feedback.records import ANONYMOUS, Thumb, Verdict

MAX_ID = 512
MAX_NAME = 256
MAX_COMMENT = 20_000
MIDDLE = 3
"""Of the scale from 1 to 5: a thumb that points the other way contradicts it."""

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)


class ComparisonBody(_Body):
    """How an answer compares with another one."""

    other_id: Id
    """The other answer."""
    verdict: Verdict
    """What `answer_id` is beside it: `better`, `worse`, or a `tie`."""


class EditBody(_Body):
    """A better wording of an answer."""

    content: str
    """Its text."""
    reasoning_content: str | None = None
    """The thinking before it."""


class RatingBody(_Body):
    """What somebody thinks of an answer; at least one judgement, or `retracted`."""

    answer_id: Id
    """The response's id; of a choice other than the first, with `:1`, `:2`, … behind it; of an
    agent's answer, its message's id."""
    thumb: Thumb | None = None
    """`up` or `down`."""
    scale: Annotated[int, Field(ge=1, le=5)] | None = None
    """From 1, the worst, to 5."""
    comment: Annotated[str, Field(max_length=MAX_COMMENT)] | None = None
    """In words."""
    compared: ComparisonBody | None = None
    """The answer beside another one to the same prompt."""
    edited: EditBody | None = None
    """What it should have said."""
    rater: Annotated[str, Field(min_length=1, max_length=MAX_NAME)] = ANONYMOUS
    """Who says so; of each rater the newest judgement counts."""
    thread_id: Id | None = None
    """The conversation, where the answer does not say it itself."""
    retracted: bool = False
    """Withdraws everything that the rater has said of the answer."""
    source: Literal["api", "ui", "terminal"] = "api"
    """Where it is said."""

    def check(self) -> None:
        """Check that it says something, and not two things at once.

        Raises:
            InvalidRequest: It does not; `param` names the place.
        """
        said = [name for name in _JUDGEMENTS if getattr(self, name) is not None]
        if self.retracted and said:
            raise InvalidRequest(
                f"a rating that is retracted can't have a {said[0]}", param="retracted"
            )
        if not (self.retracted or said):
            raise InvalidRequest(
                "the rating says nothing", param="thumb", hint=f"send {', '.join(_JUDGEMENTS)}"
            )
        if self.compared is not None and self.compared.other_id == self.answer_id:
            raise InvalidRequest("an answer can't be better than itself", param="compared.other_id")
        if self.thumb is not None and self.scale is not None:
            points_up = self.scale - MIDDLE if self.thumb == "up" else MIDDLE - self.scale
            if points_up < 0:
                raise InvalidRequest(
                    f"thumb is {self.thumb} and scale is {self.scale}", param="scale"
                )


_JUDGEMENTS = ("thumb", "scale", "comment", "compared", "edited")


def read_filters(
    thread_id: Annotated[str | None, Param(max_length=MAX_ID)] = None,
    model: Annotated[str | None, Param(max_length=MAX_NAME)] = None,
    adapter: Annotated[str | None, Param(max_length=MAX_NAME)] = None,
    rater: Annotated[str | None, Param(max_length=MAX_NAME)] = None,
    thumb: Annotated[Thumb | None, Param()] = None,
    min_scale: Annotated[int | None, Param(ge=1, le=5)] = None,
    max_scale: Annotated[int | None, Param(ge=1, le=5)] = None,
    since: Annotated[str | None, Param(max_length=64)] = None,
    until: Annotated[str | None, Param(max_length=64)] = None,
    text: Annotated[str | None, Param(max_length=1000)] = None,
    rated: Annotated[bool | None, Param()] = None,
) -> dict[str, Any]:
    """Which answers are asked for, as a `Query` has it."""
    return dict(locals())


def read_query(
    filters: Filters,
    limit: Annotated[int, Param(ge=1, le=MAX_PAGE)] = 50,
    cursor: Annotated[str | None, Param(max_length=MAX_ID)] = None,
) -> Query:
    """A page of the answers that are asked for.

    Raises:
        InvalidRequest: Something can't be asked; `param` names it.
    """
    return Query(**filters, limit=limit, cursor=cursor)


def read_selection(filters: Filters) -> Query:
    """All the answers that are asked for.

    Raises:
        InvalidRequest: Something can't be asked; `param` names it.
    """
    return Query(**filters)


Filters = Annotated[dict[str, Any], Depends(read_filters)]
PageQuery = Annotated[Query, Depends(read_query)]
Selection = Annotated[Query, Depends(read_selection)]
