"""How commands talk to a running server's admin routes: where it is, which key, and the wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwenkit.cli import console

if TYPE_CHECKING:
    from qwenkit.chat.remote import RemoteServer
    from qwenkit.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8000"
POLL_S = 0.5

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help=f"The server; by default OPENAI_API_BASE_URL, or else {DEFAULT_URL}.",
        metavar="<str>",
        show_default=False,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        help="An admin's key; by default OPENAI_API_KEY, and before it, for a server on this "
        "machine, the first of ADMIN_API_KEYS.",
        metavar="<str>",
        show_default=False,
    ),
]


def ask_server(
    url: str | None,
    api_key: str | None,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
) -> Any:
    """What the server answers, as JSON.

    Raises:
        RemoteError: It refuses.
        RemoteUnreachable: It does not answer.
    """
    return asyncio.run(_ask(_server(url, api_key), method, path, body))


def reload_server(url: str | None, api_key: str | None, body: Mapping[str, Any]) -> Any:
    """Have the server load a model and say on stderr what it does; returns its report.

    Raises:
        RemoteError: It refuses or fails.
        RemoteUnreachable: It does not answer.
    """
    return asyncio.run(_reload(_server(url, api_key), body))


def server_path(path: str) -> str:
    """A path as the server, which runs in another folder, can follow it; anything else as it is."""
    local = Path(path).expanduser()
    return str(local.absolute()) if path and local.exists() else path


def _server(url: str | None, api_key: str | None) -> RemoteServer:
    from qwenkit.chat.remote import RemoteServer
    from qwenkit.settings import Settings

    settings = Settings.load()
    url = url or settings.openai_api_base_url or DEFAULT_URL
    return RemoteServer(url, api_key=api_key or _key(settings, url))


def _key(settings: Settings, url: str) -> str | None:
    """The key for a server; this machine's admin keys are for this machine's server only."""
    from qwenkit.chat.remote import base_url, is_local

    own = settings.admin_api_keys[:1] if is_local(base_url(url)) else ()
    for key in (*own, settings.openai_api_key):
        if key is not None:
            return key.get_secret_value()
    return None


async def _ask(server: RemoteServer, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
    async with server:
        return await server.call(method, path, body)


async def _reload(server: RemoteServer, body: Mapping[str, Any]) -> Any:
    async with server:
        reloading = asyncio.create_task(server.call("POST", "/admin/reload", body))
        try:
            said = ""
            while not (await asyncio.wait({reloading}, timeout=POLL_S))[0]:
                status = await server.call("GET", "/admin/status")
                doing = _doing(status["loading"])
                if doing not in ("", said):
                    console.note(doing)
                    said = doing
            return await reloading
        finally:
            reloading.cancel()


def _doing(loading: Mapping[str, Any] | None) -> str:
    """What a reload does now, in steps of a tenth where that is known."""
    if loading is None:
        return ""
    progress = loading["progress"]
    if progress is None:
        return f"{loading['step']} …"
    share = f" {progress['done'] * 10 // progress['total']}0 %" if progress["total"] else ""
    return f"{progress['description']}{share} …"
