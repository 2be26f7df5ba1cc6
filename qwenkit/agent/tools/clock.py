"""The time, which no model knows by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from qwenkit.agent.tools.base import AgentTool, ToolOutput
from qwenkit.chat.messages import JsonValue

PARAMETERS = {
    "type": "object",
    "properties": {
        "timezone": {
            "type": "string",
            "description": "An IANA name such as Europe/Berlin; absent is the local one.",
        }
    },
}


def now_utc() -> datetime:
    """The current time."""
    return datetime.now(UTC)


def clock(now: Callable[[], datetime] = now_utc) -> AgentTool:
    """A tool that tells date, weekday and time.

    Args:
        now: Tells the time, with its zone.
    """

    async def run(arguments: Mapping[str, JsonValue]) -> ToolOutput:
        name = arguments.get("timezone")
        if not name:
            return _told(now().astimezone())
        try:
            return _told(now().astimezone(ZoneInfo(str(name))))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return ToolOutput(
                f"there is no time zone {name!r}; IANA names look like Europe/Berlin", is_error=True
            )

    return AgentTool(
        name="clock",
        description="Tells the current date, weekday and time.",
        parameters=PARAMETERS,
        run=run,
        allowed=True,
    )


def _told(moment: datetime) -> ToolOutput:
    zone = getattr(moment.tzinfo, "key", None) or moment.tzname()
    return ToolOutput(f"{moment:%A}, {moment.isoformat(timespec='seconds')} ({zone})")
