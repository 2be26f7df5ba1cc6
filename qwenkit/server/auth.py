"""Says who may call what. Knows keys, roles and paths; nothing behind them.

Everything is closed unless `OPEN_PATHS` or `OPEN_FOLDER` names it. Without keys, everyone who can
reach the server is its admin: `run.py` keeps such a server on loopback.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenkit.server.errors import Forbidden, Unauthorized, failure

OPEN_PATHS = frozenset(
    {"/healthz", "/readyz", "/health", "/", "/v1/me", "/v1/feedback/label-studio"}
)
"""Paths that need no key: what a load balancer asks, the page that asks for the key, and what Label
Studio calls, which proves itself by a secret of its own."""
OPEN_FOLDER = "/assets/"
"""The page's own files, under which nothing else is found."""


class Role(IntEnum):
    """What a caller may do; each role may do what those below it may."""

    NOBODY = 0
    USER = 1
    ADMIN = 2


class KeyRing:
    """The keys that open the server.

    Args:
        users: Keys that may use it; with none, everyone may.
        admins: Keys that may also change what is served; with no key at all, everyone may.
    """

    def __init__(self, *, users: Iterable[str], admins: Iterable[str]) -> None:
        self._roles = {_digest(key): Role.USER for key in users}
        without_user_keys = not self._roles
        self._roles |= {_digest(key): Role.ADMIN for key in admins}
        self._anonymous = Role.NOBODY
        if without_user_keys:
            self._anonymous = Role.USER if self._roles else Role.ADMIN

    @property
    def anonymous(self) -> Role:
        """The role of a caller without a key."""
        return self._anonymous

    def can_become(self, other: KeyRing) -> bool:
        """Whether a running server may open for another ring's keys in place of its own.

        What was set up for a server with keys, or for one without, stays; and whoever has no key
        never gains by it, so that a typing error in a setting's name opens nothing.
        """
        return self.needs_key == other.needs_key and other.anonymous <= self.anonymous

    def become(self, other: KeyRing) -> None:
        """Open for the keys of another ring from now on, and no more for one's own."""
        self._roles, self._anonymous = other._roles, other._anonymous

    @property
    def needs_key(self) -> bool:
        """Whether a caller without a key is refused."""
        return self._anonymous is Role.NOBODY

    def role(self, key: str) -> Role:
        """The role that a key gives, in the same time whichever key it is."""
        given = _digest(key)
        role = self._anonymous
        for digest, granted in self._roles.items():
            if hmac.compare_digest(digest, given):
                role = granted
        return role


def _digest(key: str) -> bytes:
    # Digests are of one length, so that comparing them does not tell a key's length.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class KeyAuth:
    """Refuses a caller whose key opens nothing, and notes the role of the others."""

    def __init__(self, app: ASGIApp, *, keys: KeyRing) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for those who may."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        key = key_of(Headers(scope=scope))
        role = self.keys.role(key)
        scope.setdefault("state", {})["role"] = role
        if role >= Role.USER or is_open(scope["path"]):
            await self.app(scope, receive, send)
        else:
            await failure(_refusal(key)).response()(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _refusal(key: str) -> Unauthorized:
    if key:
        return Unauthorized("the API key is wrong")
    return Unauthorized("an API key is needed", hint="send the header Authorization: Bearer KEY")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a request.

    Args:
        name: The same for the same key, and telling nothing of it; empty where no key counts.
        role: What they may do.
    """

    name: str
    role: Role

    def may_see(self, owner: str) -> bool:
        """Whether what a caller of that name has left here is theirs, or open to them."""
        return self.role is Role.ADMIN or self.name == owner


def caller_of(request: Request) -> Caller:
    """Who sends a request."""
    keys: KeyRing = request.app.state.keys
    key = key_of(request.headers)
    role = keys.role(key)
    # Where no key is needed, any other text in its place is nobody's.
    return Caller(_name(key) if role > keys.anonymous else "", role)


def _name(key: str) -> str:
    return hashlib.sha256(b"owner:" + _digest(key)).hexdigest()


def key_of(headers: Headers) -> str:
    """The key that a request brings; empty where it brings none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def require_admin(request: Request) -> None:
    """A dependency of routes that change what is served.

    Raises:
        Forbidden: The caller is no admin.
    """
    if request.scope["state"]["role"] < Role.ADMIN:
        raise Forbidden("this needs an admin's key", hint="set ADMIN_API_KEYS and send one of them")
