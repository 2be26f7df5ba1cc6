"""`qwenkit mcp`: other servers' tools for our model, and our model for other programs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwenkit.cli import console
from qwenkit.cli.flags import MODEL_FLAGS, with_settings
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.mcp.client import McpConnections, ServerStatus, ToolResult
    from qwenkit.mcp.server.feedback import Feedback
    from qwenkit.mcp.server.offer import Host

app = typer.Typer(no_args_is_help=True, help="Use MCP servers' tools, and be an MCP server.")

EXIT_DOWN = 6
"""What `tools` ends with when a server can't be reached; as `ServerError` does."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
@with_settings("mcp_config")
def tools(
    settings: Settings,
    *,
    server: Annotated[str | None, typer.Option(help="Only this server.", metavar="NAME")] = None,
    json: Json = False,
) -> None:
    """List the tools of the configured MCP servers.

    Ends with exit code 6 when one of them can't be reached, and says why.
    """
    servers = asyncio.run(_look(settings, server))
    if json:
        console.print_json([_server_json(each) for each in servers])
    else:
        for each in servers:
            _show(each)
    if any(each.state == "failed" for each in servers):
        raise typer.Exit(EXIT_DOWN)


@app.command()
@with_settings("mcp_config")
def call(
    settings: Settings,
    tool: Annotated[str, typer.Argument(help="The tool, as `qwenkit mcp tools` lists it.")],
    arguments: Annotated[str, typer.Argument(help="Its arguments as a JSON object.")] = "{}",
    *,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that it may take.")
    ] = None,
    json: Json = False,
) -> None:
    """Call a tool of a configured MCP server and print what it says."""
    result = asyncio.run(_call(settings, tool, arguments, timeout))
    if json:
        console.print_json(console.plain(result))
    else:
        (console.note if result.is_error else console.line)(result.text)
    if result.is_error:
        raise typer.Exit(1)


@app.command()
@with_settings(
    "openai_api_base_url", "openai_api_key", *MODEL_FLAGS, "served_model_name", "thinking_budget"
)
def serve(settings: Settings) -> None:
    """Offer the model to an MCP client over stdin and stdout.

    A client starts this by itself: name `qwenkit mcp serve` as a command in its list of servers.
    The model runs in this process unless --url or OPENAI_API_BASE_URL names a server.
    """
    from qwenkit.mcp.server.build import build_server
    from qwenkit.mcp.server.stdio import serve_stdio

    async def run() -> None:
        async with AsyncExitStack() as stack:
            host, feedback = await _host(settings, stack)
            # Whoever starts the program may do with the model what they like.
            await serve_stdio(build_server(host, is_admin=lambda _: True, feedback=feedback))

    asyncio.run(run())


async def _host(settings: Settings, stack: AsyncExitStack) -> tuple[Host, Feedback]:
    from qwenkit.chat.remote import RemoteServer
    from qwenkit.mcp.server.feedback_log import IndexedFeedback, RemoteFeedback, opened
    from qwenkit.mcp.server.local import LocalHost
    from qwenkit.mcp.server.remote import RemoteHost

    if settings.openai_api_base_url is not None:
        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
        server = RemoteServer(settings.openai_api_base_url, api_key=key)
        await stack.enter_async_context(server)
        return RemoteHost(server), RemoteFeedback(server)
    from qwenkit.chat.loading import load_chat_model
    from qwenkit.cli.chat.local import pruned_log
    from qwenkit.feedback.log import FOLDER

    load = partial(
        load_chat_model,
        settings.model_spec(),
        name=settings.served_model_name,
        progress=console.progress,
    )
    log = pruned_log(settings)
    if log is not None:
        stack.callback(log.close)
    host = LocalHost(load, thinking_budget=settings.thinking_budget, log=log)
    await stack.enter_async_context(host)
    return host, IndexedFeedback(stack.enter_context(opened(settings.log_dir / FOLDER)))


def connections_of(settings: Settings) -> McpConnections:
    """Connections to the servers of MCP_CONFIG, not entered yet.

    Raises:
        InvalidSettings: There is no such file, or there are mistakes in it.
    """
    from qwenkit.errors import InvalidSettings
    from qwenkit.mcp.client import McpConnections
    from qwenkit.mcp.client.config import load_config

    if settings.mcp_config is None:
        raise InvalidSettings(
            "MCP_CONFIG names no file", hint="set it, or pass --mcp-config, to an mcp.json"
        )
    return McpConnections(load_config(settings.mcp_config, settings.variables()))


async def _look(settings: Settings, name: str | None) -> tuple[ServerStatus, ...]:
    async with connections_of(settings) as connections:
        if name is not None:
            connections.server(name)
        await connections.settled()
        return tuple(each for each in connections.status() if name in (None, each.name))


async def _call(
    settings: Settings, tool: str, arguments: str, timeout_s: float | None
) -> ToolResult:
    from qwenkit.errors import UsageError
    from qwenkit.mcp.rounds import read_arguments

    given = read_arguments(arguments)
    if given is None:
        raise UsageError(
            "the arguments are no JSON object", hint=f"""qwenkit mcp call {tool} '{{"name": 1}}'"""
        )
    async with connections_of(settings) as connections:
        await connections.settled()
        known = [each.name for each in connections.tools()]
        if tool not in known:
            raise UsageError(f"there is no tool `{tool}`", hint=_suggestion(tool, known))
        return await connections.call(tool, given, timeout_s=timeout_s)


def _suggestion(tool: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(tool, known, n=3)
    return f"there is {', '.join(close)}" if close else "qwenkit mcp tools"


def _show(server: ServerStatus) -> None:
    about = server.software or server.where
    console.line(f"{server.name} ({about}): {server.state}", style="bold")
    if server.state == "failed":
        console.note(f"{server.name}: {server.explained}")
    if server.tools and server.state == "connected":
        rows = [
            (each.name, "runs unasked" if each.allowed else "asks", _first_line(each.description))
            for each in server.tools
        ]
        console.table("", ["Tool", "Approval", "Does"], rows)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _server_json(server: ServerStatus) -> dict[str, Any]:
    shown: dict[str, Any] = console.plain(server)
    if server.state != "connected":
        shown["tools"] = []
    return shown
