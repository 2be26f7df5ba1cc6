"""What a client wants to be told while its calls run: `logging/setLevel`, session by session.

Deprecated by the protocol of 2026, in which every request says so itself; the SDK then filters.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any, get_args

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import EmptyResult, LoggingLevel, SetLevelRequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

LEVELS: tuple[LoggingLevel, ...] = get_args(LoggingLevel)
DEFAULT: LoggingLevel = "warning"
MAX_SESSIONS = 1000
SESSION_HEADER = "mcp-session-id"

Context = ServerRequestContext[Any, Any]


class ClientLogs:
    """Sends log messages to clients that want them."""

    def __init__(self) -> None:
        self._levels: OrderedDict[str, LoggingLevel] = OrderedDict()

    async def set_level(self, ctx: Context, params: SetLevelRequestParams) -> EmptyResult:
        """From now on send a session what is at least this severe."""
        session = _session(ctx)
        self._levels[session] = params.level
        self._levels.move_to_end(session)
        while len(self._levels) > MAX_SESSIONS:
            self._levels.popitem(last=False)
        return EmptyResult()

    async def send(self, ctx: Context, level: LoggingLevel, text: str) -> None:
        """Tell a request's client something, if it wants to hear it."""
        wanted = self._levels.get(_session(ctx), DEFAULT)
        is_modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
        if not is_modern and LEVELS.index(level) < LEVELS.index(wanted):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            message = ctx.session.send_log_message(
                level, text, logger="qwenkit", related_request_id=ctx.request_id
            )
        await message


def _session(ctx: Context) -> str:
    headers = getattr(ctx.request, "headers", None)
    return headers.get(SESSION_HEADER, "") if headers is not None else ""
