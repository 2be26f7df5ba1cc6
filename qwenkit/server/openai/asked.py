"""Reads from a completion's body whose answer it is, for its record. Knows no sink."""

from __future__ import annotations

from typing import Any

from qwenkit.errors import InvalidRequest
from qwenkit.feedback.capture import Asked
from qwenkit.server.openai.schema import MAX_NAME, GenerationBody
from qwenkit.server.serving import Lease
from qwenkit.server.tracing import request_id


def asked_by(body: GenerationBody, serving: Lease, *, answer_id: str) -> Asked:
    """Whose answer it is.

    Raises:
        InvalidRequest: `metadata` names no id where one is needed; `param` names the place.
    """
    metadata = body.metadata or {}
    return Asked(
        id=answer_id,
        source="api",
        model=serving.model.name,
        request_id=request_id(),
        thread_id=_id(metadata, "thread_id"),
        parent_id=_id(metadata, "parent_id"),
        user=body.user,
    )


def _id(metadata: dict[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    if value is None or (isinstance(value, str) and 0 < len(value) <= MAX_NAME):
        return value
    place = f"metadata.{name}"
    raise InvalidRequest(f"{place} must be a string of 1 to {MAX_NAME} characters", param=place)
