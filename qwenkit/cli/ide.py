"""`qwenkit ide`: editors that use a running server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwenkit.cli import console
from qwenkit.cli.flags import with_settings
from qwenkit.cli.remote_admin import DEFAULT_URL
from qwenkit.ide.continue_config import McpTransport
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.ide.continue_files import Installed
    from qwenkit.ide.served import Served

app = typer.Typer(no_args_is_help=True, help="Configure editors for a running server.")

Model = Annotated[
    str | None,
    typer.Option(help="A model or adapter that is served; the model by default.", metavar="NAME"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SERVER = ("openai_api_base_url", "openai_api_key")


@app.command("continue")
@with_settings(*SERVER)
def continue_(
    settings: Settings,
    *,
    write: Annotated[bool, typer.Option("--write", help="Merge it into Continue's file.")] = False,
    file: Annotated[
        Path | None,
        typer.Option(help="Another file than Continue's own.", metavar="PATH", show_default=False),
    ] = None,
    mcp: Annotated[
        McpTransport, typer.Option(help="How Continue reaches the MCP server, if at all.")
    ] = McpTransport.HTTP,
    model: Model = None,
    json: Json = False,
) -> None:
    """Configure Continue: chat, edits, completions, embeddings, reranking, MCP.

    Prints a `config.yaml`. With --write it is merged into the file that is there: what you wrote
    stays, with its comments, and a copy of the old file is kept. The key goes to Continue's `.env`.
    """
    from qwenkit.ide import continue_config, continue_files

    key = _key(settings)
    served = _look(settings, key, model)
    entries = continue_config.config(served, with_key=key is not None, mcp=mcp)
    missing = continue_config.left_out(served)
    folder = continue_files.folder(Settings.variables())
    target = (file or folder / continue_files.CONFIG).expanduser().absolute()
    secrets = folder / continue_files.SECRETS
    installed = (
        continue_files.install(entries, file=target, secrets=secrets, api_key=key)
        if write
        else None
    )
    if json:
        facts = {"file": target, "written": write, "left_out": missing, "config": entries}
        facts["backup"] = installed.backup if installed else None
        console.print_json(console.plain(facts))
        return
    for each in missing:
        console.note(each)
    if installed is not None:
        _tell(installed)
        return
    console.line(continue_files.whole(entries).rstrip())
    console.note(f"--write merges this into `{target}`")
    if key is not None:
        console.note(f"`{secrets}` must name your key: {continue_config.SECRET}=…")


@app.command()
@with_settings(*SERVER)
def codegpt(settings: Settings, *, model: Model = None, json: Json = False) -> None:
    """Say what to enter in CodeGPT for VS Code, and in ProxyAI, which was CodeGPT for JetBrains.

    Both keep their connections where no other program can write them.
    """
    from qwenkit.ide import codegpt as fields

    key = _key(settings)
    served = _look(settings, key, model)
    listed = fields.settings(served, with_key=key is not None)
    if json:
        facts = {"settings": listed, "notes": fields.notes(served)}
        console.print_json(console.plain(facts))
        return
    for program in dict.fromkeys(each.program for each in listed):
        rows = [(each.place, each.name, each.value) for each in listed if each.program == program]
        console.table(program, ["Where", "Field", "Value"], rows)
    for each in fields.notes(served):
        console.note(each)


def _key(settings: Settings) -> str | None:
    """A key of a user's: OPENAI_API_KEY, or for a server on this machine one of its own."""
    from qwenkit.chat.remote import base_url, is_local

    own = settings.api_keys[:1] if is_local(base_url(_url(settings))) else ()
    for key in (settings.openai_api_key, *own):
        if key is not None:
            return key.get_secret_value()
    return None


def _url(settings: Settings) -> str:
    """The server: OPENAI_API_BASE_URL, or the one that runs here by these settings."""
    if settings.openai_api_base_url is None and settings.port:
        return f"http://127.0.0.1:{settings.port}"
    return settings.openai_api_base_url or DEFAULT_URL


def _look(settings: Settings, key: str | None, model: str | None) -> Served:
    from qwenkit.chat.remote import RemoteServer
    from qwenkit.ide.served import look

    async def run() -> Served:
        async with RemoteServer(_url(settings), api_key=key) as server:
            return await look(server, model=model)

    return asyncio.run(run())


def _tell(installed: Installed) -> None:
    facts: dict[str, Any] = {
        "written": installed.file,
        "the old one": installed.backup,
        "the key": installed.secrets,
    }
    rows = [(name, str(path)) for name, path in facts.items() if path is not None]
    console.table("", ["", ""], rows)
