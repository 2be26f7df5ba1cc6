"""Names of traces, observations and scores: made from the records', so the same on every way there.

A trace is a request: all choices of an answer, or all steps of a run of the agent. An id is the
beginning of a SHA-256, as `Langfuse.create_trace_id(seed=…)` makes it.
"""

from __future__ import annotations

import hashlib
import re

from qwenkit.feedback.records import Interaction, ToolRun

_CHOICE = re.compile(r":\d+\Z")


def trace_id(record: Interaction | ToolRun) -> str:
    """The trace that an answer or a run of a tool is part of: 32 hex digits."""
    return request_trace_id(record.request_id or _response_id(record), record.thread_id)


def request_trace_id(request_id: str, thread_id: str | None = None) -> str:
    """The trace of a request."""
    return _digest(f"{thread_id or ''}\n{request_id}", 32)


def answer_observation_id(answer_id: str) -> str:
    """The observation that an answer is: 16 hex digits."""
    return _digest(f"answer\n{answer_id}", 16)


def tool_observation_id(run: ToolRun) -> str:
    """The observation that a run of a tool is: 16 hex digits."""
    return _digest(f"tool\n{trace_id(run)}\n{run.id}", 16)


def item_id(dataset: str, content: str) -> str:
    """The item of a dataset that has this content. Items' ids are unique in a whole project."""
    return _digest(f"{dataset}\n{content}", 32)


def root_observation_id(answer_id: str) -> str:
    """The observation that an answer and what is said of it stand under, in a run of a dataset."""
    return _digest(f"root\n{answer_id}", 16)


def _response_id(record: Interaction | ToolRun) -> str:
    if isinstance(record, ToolRun):
        return record.answer_id or record.id
    return _CHOICE.sub("", record.id)


def _digest(seed: str, n_digits: int) -> str:
    return hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:n_digits]
