"""The services that answers go to and judgements come from, and the flags that belong to each."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from qwenkit.errors import UsageError


class Service(StrEnum):
    """Services that people judge answers in."""

    LANGFUSE = "langfuse"
    LABEL_STUDIO = "label-studio"


def refuse_flags(service: Service, flags: Iterable[tuple[str, object]]) -> None:
    """Say so where flags are given that mean nothing with a service.

    Args:
        service: The service that was chosen.
        flags: Of other services, with what was given; what is false or None was not.

    Raises:
        UsageError: One is.
    """
    for name, value in flags:
        if value:
            raise UsageError(f"{name} means nothing with {service}")
