"""`/v1/feedback/answers` and `/stats`: the log searched and summed up, for admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import RatedAnswer
from qwenkit.feedback.records import encode
from qwenkit.feedback.stats import compute_stats
from qwenkit.server.answers import AnswerPage, FeedbackNumbers, RatedInteraction
from qwenkit.server.auth import require_admin
from qwenkit.server.errors import NotThere
from qwenkit.server.feedback.schema import MAX_ID, PageQuery, Selection
from qwenkit.server.feedback.service import FeedbackNow
from qwenkit.server.openai.wire import to_json

router = APIRouter(prefix="/v1/feedback", tags=["feedback"], dependencies=[Depends(require_admin)])


@router.get(
    "/answers",
    summary="Search the answers",
    response_class=Response,
    responses={200: {"model": AnswerPage}},
)
async def search(query: PageQuery, feedback: FeedbackNow) -> Response:
    """Newest first, each with the ratings that count; `next_cursor` begins the next page."""

    def find(index: FeedbackIndex) -> str:
        page = index.search(query)
        data = ",".join(map(rated_json, page.items))
        cursor = to_json(page.next_cursor)
        return f'{{"object":"list","data":[{data}],"next_cursor":{cursor}}}'

    return _json(await feedback.look_up(find))


@router.get(
    "/answers/{answer_id}",
    summary="One answer",
    response_class=Response,
    responses={200: {"model": RatedInteraction}},
)
async def get(
    answer_id: Annotated[str, Path(max_length=MAX_ID)], feedback: FeedbackNow
) -> Response:
    """With the ratings that count."""

    def find(index: FeedbackIndex) -> str | None:
        answer = index.answer(answer_id)
        return None if answer is None else rated_json(answer)

    found = await feedback.look_up(find)
    if found is None:
        raise NotThere(f"no answer {answer_id!r} is in the log", param="answer_id")
    return _json(found)


@router.get(
    "/stats",
    summary="What people thought, in numbers",
    responses={200: {"model": FeedbackNumbers}},
)
async def stats(query: Selection, feedback: FeedbackNow) -> dict[str, Any]:
    """Counts by day, agreement between raters, and how adapters do."""
    return await feedback.look_up(lambda index: compute_stats(index, query).as_json())


def rated_json(answer: RatedAnswer) -> str:
    """An answer as one JSON object, its ratings in it."""
    ratings = ",".join(map(encode, answer.ratings))
    return f'{encode(answer.interaction)[:-1]},"ratings":[{ratings}]}}'


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")
