"""Keeps other web sites from using the server through a visitor's browser. Knows headers only.

CORS answers scripts of other origins; the host check answers DNS rebinding, where another site's
name is made to point at this machine so that its scripts count as same-origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenkit.server.errors import Forbidden, failure

CORS_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
CORS_HEADERS = (
    "Anthropic-Beta",
    "Anthropic-Dangerous-Direct-Browser-Access",
    "Anthropic-Version",
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "Last-Event-ID",
    "Mcp-Method",
    "Mcp-Name",
    "Mcp-Protocol-Version",
    "Mcp-Session-Id",
    "Prefer",
    "X-Api-Key",
    "X-Auth-Scheme",
    "X-Request-Id",
    # What the clients of OpenAI and Anthropic send from a browser, too.
    "X-Stainless-Arch",
    "X-Stainless-Helper",
    "X-Stainless-Helper-Method",
    "X-Stainless-Lang",
    "X-Stainless-OS",
    "X-Stainless-Package-Version",
    "X-Stainless-Poll-Helper",
    "X-Stainless-Retry-Count",
    "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version",
    "X-Stainless-Timeout",
)
EXPOSED_HEADERS = (
    "Content-Location",
    "Location",
    "Mcp-Session-Id",
    "Request-Id",
    "Retry-After",
    "X-Pagination-Next",
    "X-Pagination-Total",
    "X-Request-Id",
)


class LocalHosts:
    """Refuses requests for a host that is neither an address, `localhost` nor an allowed name."""

    def __init__(self, app: ASGIApp, *, allowed: Iterable[str]) -> None:
        self.app = app
        self.allowed = {"localhost", *(name.lower() for name in allowed)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for requests that name this machine."""
        if scope["type"] not in ("http", "websocket") or self._names_us(scope):
            await self.app(scope, receive, send)
            return
        error = Forbidden(
            "the Host header names another machine",
            hint="set API_KEYS, or name the origin in CORS_ORIGINS",
        )
        await failure(error).response()(scope, receive, send)

    def _names_us(self, scope: Scope) -> bool:
        name = host_name(f"//{Headers(scope=scope).get('host', '')}")
        # Only a name can be made to point elsewhere; an address is what it says.
        return not name or name in self.allowed or is_address(name)


def host_name(url: str) -> str:
    """The host in a URL, in lower case; empty when there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Whether a host is given as an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
