"""`qwenkit chat`: one question from the command line or a pipe, or a talk at the terminal."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli import console
from qwenkit.cli.chat.input import message_from
from qwenkit.cli.chat.render import (
    JsonLinesRenderer,
    PlainRenderer,
    Renderer,
    SilentRenderer,
    TerminalRenderer,
)
from qwenkit.cli.chat.session import AnswerOptions, Session, Turn, turn_as_json
from qwenkit.cli.chat.source import AnswerSource, RemoteSource
from qwenkit.cli.chat.talk import OpenSource, ask_once, talk
from qwenkit.cli.failure import EXIT_INTERRUPTED
from qwenkit.cli.flags import MODEL_FLAGS, with_settings
from qwenkit.errors import UsageError
from qwenkit.settings import Settings

if TYPE_CHECKING:
    from qwenkit.mcp.client import McpConnections

app = typer.Typer()


@app.command()
@with_settings("openai_api_base_url", "openai_api_key", "mcp_config", *MODEL_FLAGS[1:])
def chat(
    settings: Settings,
    message: Annotated[
        list[str] | None,
        typer.Argument(
            help="The question. What is piped in stands where it says -, else at its end."
        ),
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(help="The model to load; with --url, its name there. [MODEL_PATH]"),
    ] = None,
    system: Annotated[str, typer.Option(help="What the model is told first.")] = "",
    think: Annotated[
        bool | None, typer.Option("--think/--no-think", help="Whether it thinks before it answers.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 always takes the likeliest token.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling, 0 to 1.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the draws repeatable.")] = None,
    tools: Annotated[
        bool,
        typer.Option("--tools/--no-tools", help="Whether it has the tools of the MCP servers."),
    ] = True,
    json: Annotated[
        bool, typer.Option("--json", help="Print the whole answer as one JSON object.")
    ] = False,
    jsonl: Annotated[
        bool,
        typer.Option("--jsonl", help="Print each piece as a JSON line; the last is the whole."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the answer only: no reasoning, no figures.")
    ] = False,
) -> None:
    """Chat with a model in the terminal.

    Without a message, and at a terminal, it is a talk: /help there lists what you can type.
    With a message, or with text piped in, it is one answer: the answer goes to stdout, reasoning
    and figures to stderr.

    The model runs in this process unless --url or OPENAI_API_BASE_URL names a server. It has the
    tools of the MCP servers in the file of MCP_CONFIG, and asks before it runs one that the file
    does not allow.
    """
    options = AnswerOptions(
        thinking=think, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed
    )
    session = Session(system=system, options=options)
    open_source = _opener(settings, model)
    connections = _connections(settings) if tools else None
    if not message and console.on_terminal():
        if json or jsonl:
            raise UsageError("--json needs a message", hint='qwenkit chat --json "question"')
        talk(open_source, session, connections)
        return
    new_renderer = partial(_renderer, json=json, jsonl=jsonl, quiet=quiet)
    question = message_from(message or [])
    turn, name = ask_once(open_source, session, question, new_renderer, connections)
    _conclude(turn, name, json=json, jsonl=jsonl, quiet=quiet)


def _connections(settings: Settings) -> McpConnections | None:
    if settings.mcp_config is None:
        return None
    from qwenkit.cli.mcp import connections_of

    return connections_of(settings)


def _opener(settings: Settings, model: str | None) -> OpenSource:
    url = settings.openai_api_base_url
    return (
        partial(_load, settings, model) if url is None else partial(_connect, url, settings, model)
    )


async def _connect(url: str, settings: Settings, model: str | None) -> AnswerSource:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    return await RemoteSource.connect(url, api_key=key, model=model)


async def _load(settings: Settings, model: str | None) -> AnswerSource:
    from qwenkit.cli.chat.local import LocalSource, pruned_log

    chosen = settings.model_copy(update={"model_path": model} if model else {})
    return LocalSource(chosen, pruned_log(settings))


def _renderer(*, json: bool, jsonl: bool, quiet: bool) -> Renderer:
    if jsonl:
        return JsonLinesRenderer()
    if json:
        return SilentRenderer()
    return TerminalRenderer() if console.on_terminal() else PlainRenderer(quiet=quiet)


def _conclude(turn: Turn, model: str, *, json: bool, jsonl: bool, quiet: bool) -> None:
    if jsonl:
        console.print_json_line(turn_as_json(turn, model))
    elif json:
        console.print_json(turn_as_json(turn, model))
    elif not quiet and turn.answer.complete:
        console.note(turn.answer.statistics())
    if not turn.answer.complete:
        raise typer.Exit(EXIT_INTERRUPTED)
