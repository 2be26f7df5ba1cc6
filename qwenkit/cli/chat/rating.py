"""What a reader said of an answer, as a record of the feedback log."""

from __future__ import annotations

from qwenkit.cli.chat.answer import Answer
from qwenkit.cli.chat.commands import Rate
from qwenkit.errors import UsageError
from qwenkit.feedback.records import Edit, Rating, new_rating_id, now


def rating_of(said: Rate, answer: Answer, thread_id: str) -> Rating:
    """A rating of an answer.

    Raises:
        UsageError: Nobody keeps the answer.
    """
    if not answer.id:
        raise UsageError(
            "the answer is not kept, so it can't be rated",
            hint="set LOG_ANSWERS to full, or to metadata",
        )
    return Rating(
        id=new_rating_id(),
        created_at=now(),
        answer_id=answer.id,
        source="terminal",
        thread_id=thread_id,
        thumb=said.thumb,
        scale=said.scale,
        comment=said.comment,
        edited=None if said.better is None else Edit(content=said.better),
        retracted=said.retracted,
    )
