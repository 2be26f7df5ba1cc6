"""`/v1/feedback` and `/v1/feedback/ratings`: what people think of answers, said and read."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Query as Param

from qwenkit.errors import InvalidRequest
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import RatedAnswer
from qwenkit.feedback.records import (
    Comparison,
    Edit,
    Interaction,
    Rating,
    as_json,
    new_rating_id,
    now,
)
from qwenkit.server.answers import RatingList
from qwenkit.server.body import StrictRoute
from qwenkit.server.errors import Conflict, NotThere
from qwenkit.server.feedback.schema import MAX_ID, ComparisonBody, EditBody, RatingBody
from qwenkit.server.feedback.service import Feedback, FeedbackNow
from qwenkit.server.openapi import fails_with

router = APIRouter(prefix="/v1/feedback", tags=["feedback"], route_class=StrictRoute)


@router.post(
    "",
    summary="Rate an answer",
    status_code=201,
    responses={201: {"model": Rating}, **fails_with(409, 507)},
)
async def rate(body: RatingBody, feedback: FeedbackNow) -> dict[str, Any]:
    """The rating, once it is written; 404 for an answer that is not in the log."""
    body.check()
    if not feedback.recorder.is_on:
        raise Conflict(
            "answers are not logged here, so they can't be rated", hint="set LOG_ANSWERS to full"
        )
    answer = await _known(feedback, body)
    rating = _rating(body, answer.interaction)
    return as_json(await feedback.recorder.rate(rating))


@router.get(
    "/ratings", summary="The ratings of a conversation", responses={200: {"model": RatingList}}
)
async def ratings(
    thread_id: Annotated[str, Param(min_length=1, max_length=MAX_ID)], feedback: FeedbackNow
) -> dict[str, Any]:
    """Those that count, in order of time."""
    found = await feedback.look_up(lambda index: index.ratings(thread_id=thread_id))
    return {"object": "list", "data": [as_json(each) for each in found]}


async def _known(feedback: Feedback, body: RatingBody) -> RatedAnswer:
    def find(index: FeedbackIndex) -> tuple[RatedAnswer | None, bool]:
        other = body.compared is None or index.answer(body.compared.other_id) is not None
        return index.answer(body.answer_id), other

    answer, knows_other = await feedback.look_up(find)
    if answer is None:
        raise NotThere(f"no answer {body.answer_id!r} is in the log", param="answer_id")
    if not knows_other:
        raise NotThere("the other answer is not in the log", param="compared.other_id")
    return answer


def _rating(body: RatingBody, answer: Interaction) -> Rating:
    if body.thread_id is not None and answer.thread_id not in (None, body.thread_id):
        raise InvalidRequest("the answer belongs to another conversation", param="thread_id")
    return Rating(
        id=new_rating_id(),
        created_at=now(),
        answer_id=body.answer_id,
        source=body.source,
        rater=body.rater,
        thread_id=answer.thread_id or body.thread_id,
        thumb=body.thumb,
        scale=body.scale,
        comment=body.comment,
        compared=_comparison(body.compared),
        edited=_edit(body.edited),
        retracted=body.retracted,
    )


def _comparison(body: ComparisonBody | None) -> Comparison | None:
    return None if body is None else Comparison(other_id=body.other_id, verdict=body.verdict)


def _edit(body: EditBody | None) -> Edit | None:
    if body is None:
        return None
    return Edit(content=body.content, reasoning_content=body.reasoning_content)
