"""`/v1/feedback/label-studio`: Label Studio says that somebody judged something.

What it says is a reason to look, not what is believed: the task is asked for at the server that the
settings name. Only deletions are taken at its word, since what is gone can't be asked for. The
secret that it sends along stands in for a key, which it has no place for.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field

from qwenkit.errors import InvalidSettings
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.label_studio.client import SECRET_HEADER, LabelStudio, SdkLabelStudio
from qwenkit.feedback.label_studio.pull import PullReport, pull_task, retract
from qwenkit.feedback.records import Rating
from qwenkit.server.answers import HookAnswer
from qwenkit.server.body import StrictRoute
from qwenkit.server.errors import Forbidden
from qwenkit.server.feedback.service import Feedback
from qwenkit.server.openapi import fails_with

MAX_TASKS = 500
DELETED = "ANNOTATIONS_DELETED"

router = APIRouter(tags=["feedback"], route_class=StrictRoute)


@dataclass(slots=True, kw_only=True)
class LabelStudioHook:
    """Takes what Label Studio reports.

    Args:
        url: Label Studio's address; None where there is none.
        api_key: For it.
        secret: What it must send along; without one nothing is received.
        connect: Opens the server at an address with a key.
    """

    url: str | None = None
    api_key: str | None = None
    secret: str | None = None
    connect: Callable[[str, str], AbstractContextManager[LabelStudio]] = SdkLabelStudio
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def refuse_strangers(self, secret: str) -> None:
        """Let only Label Studio pass.

        Raises:
            Forbidden: The secret is wrong, or there is none to compare it with.
        """
        if not self.secret:
            raise Forbidden(
                "nothing is received from Label Studio", hint="set LABEL_STUDIO_WEBHOOK_SECRET"
            )
        if not hmac.compare_digest(self.secret.encode(), secret.encode("utf-8", "replace")):
            raise Forbidden(f"{SECRET_HEADER} is wrong")

    async def take(self, task_ids: Iterable[int], feedback: Feedback) -> int:
        """Ask for tasks and keep what was said of them; how many ratings that were.

        Raises:
            InvalidSettings: Nobody said where Label Studio is.
            LogUnwritable: A rating is not kept.
            RemoteError: Label Studio refuses.
            RemoteUnreachable: It does not answer.
        """
        # A task that is named twice would be taken twice.
        tasks = tuple(dict.fromkeys(task_ids))
        ratings: list[Rating] = []

        def look(index: FeedbackIndex) -> list[PullReport]:
            with self._server() as server:
                return [pull_task(server, each, index, ratings.append) for each in tasks]

        # One after another: two at once would both find a rating new.
        async with self._turn:
            await feedback.look_up(look)
            return await _keep(ratings, feedback)

    async def forget(
        self, annotation_ids: Sequence[int], project_id: int, feedback: Feedback
    ) -> int:
        """Withdraw what deleted annotations said; how many ratings that were.

        Raises:
            LogUnwritable: A withdrawal is not kept.
        """
        ratings: list[Rating] = []
        async with self._turn:
            await feedback.look_up(
                lambda index: retract(annotation_ids, project_id, index, ratings.append)
            )
            return await _keep(ratings, feedback)

    def _server(self) -> AbstractContextManager[LabelStudio]:
        if self.url is None or self.api_key is None:
            raise InvalidSettings(
                "nobody said where Label Studio is",
                hint="set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY",
            )
        return self.connect(self.url, self.api_key)


async def _keep(ratings: Sequence[Rating], feedback: Feedback) -> int:
    for rating in ratings:
        await feedback.recorder.rate(rating)
    return len(ratings)


class _Numbered(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: int


class WebhookBody(BaseModel):
    """What Label Studio sends: an action, and what it was done to."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    action: str
    """`ANNOTATION_CREATED`, `ANNOTATIONS_CREATED`, `ANNOTATION_UPDATED`, `ANNOTATIONS_DELETED`;
    others are not acted upon."""
    project: _Numbered | None = None
    """Where."""
    task: _Numbered | Annotated[list[_Numbered], Field(max_length=MAX_TASKS)] | None = None
    """The task, or tasks, that were judged."""
    annotations: Annotated[list[_Numbered], Field(max_length=MAX_TASKS)] = []
    """The annotations that were deleted."""

    def task_ids(self) -> list[int]:
        """The tasks to look at."""
        if self.task is None:
            return []
        tasks = self.task if isinstance(self.task, list) else [self.task]
        return [task.id for task in tasks]


@router.post(
    "/v1/feedback/label-studio",
    summary="Somebody judged something in Label Studio",
    responses={200: {"model": HookAnswer}, **fails_with(403, 502, 507)},
)
async def receive(
    body: WebhookBody,
    request: Request,
    secret: Annotated[str, Header(alias=SECRET_HEADER)] = "",
) -> dict[str, Any]:
    """A webhook of Label Studio's, with the secret of the settings in `X-Qwenkit-Secret`."""
    hook: LabelStudioHook = request.app.state.label_studio
    feedback: Feedback = request.app.state.feedback
    hook.refuse_strangers(secret)
    if body.action == DELETED and body.project is not None:
        gone = [each.id for each in body.annotations]
        return {"n_retracted": await hook.forget(gone, body.project.id, feedback)}
    judged = body.task_ids()
    return {"n_ratings": await hook.take(judged, feedback) if judged else 0}
