"""The services that answers go to and judgements come from, and the flags that belong to each."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from qwenkit.errors import UsageError


class Service(StrEnum):
    """Services that people judge answers in."""

    LANGFUSE = "langfuse"
    LABEL_STUDIO = "label-studio"


def refuse_flags(beside: str, flags: Iterable[tuple[str, object]]) -> None:
    """Say so where flags are given that mean nothing beside what was chosen.

    Args:
        beside: What was chosen, such as `--to langfuse`.
        flags: What belongs to other choices, with what was given; what is false or None was not.

    Raises:
        UsageError: One is.
    """
    for name, value in flags:
        if value is not None and value is not False:
            raise UsageError(f"{name} means nothing {beside}", hint="leave it out")
