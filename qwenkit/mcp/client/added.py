"""Remembers the servers that were added over the network: a file in `mcp.json`'s own format.

Headers may hold secrets, so only its owner can read the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidSettings
from qwenkit.mcp.client.config import HttpServer, server_from
from qwenkit.models.atomic import atomic_file

OWNER_ONLY = 0o600


class AddedServers:
    """The file of added servers.

    Args:
        path: Where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[HttpServer, ...]:
        """Every server in it; none where there is no file.

        Raises:
            InvalidSettings: It can't be read.
        """
        try:
            listed = json.loads(self._path.read_text(encoding="utf-8"))["mcpServers"]
            mistakes: list[str] = []
            servers = [server_from(name, each, mistakes) for name, each in listed.items()]
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
            raise self._damaged(str(exc)) from exc
        if mistakes:
            raise self._damaged(mistakes[0])
        return tuple(each for each in servers if isinstance(each, HttpServer))

    def save(self, servers: Sequence[HttpServer]) -> None:
        """Write them all."""
        document = {"mcpServers": {each.name: as_json(each) for each in servers}}
        with atomic_file(self._path) as partial:
            partial.chmod(OWNER_ONLY)
            partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def _damaged(self, why: str) -> InvalidSettings:
        return InvalidSettings(
            f"`{self._path}`, which lists added MCP servers, can't be read: {why}",
            hint="mend it, or delete it and add the servers again",
        )


def as_json(server: HttpServer) -> dict[str, Any]:
    """A server as `mcp.json` spells it."""
    return {
        "type": server.kind,
        "url": server.url,
        "headers": dict(server.headers),
        "alwaysAllow": sorted(server.allowed),
        "disabledTools": sorted(server.hidden),
        "timeout": server.timeout_s,
    }
