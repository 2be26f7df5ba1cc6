"""The root command and the one place where failures become words and exit codes.

Imports a subcommand only when it runs: `qwenkit --help` needs this module and typer, nothing more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from qwenkit import __version__
from qwenkit.cli.failure import EXIT_INTERRUPTED, report, show_failure
from qwenkit.errors import QwenkitError

SUMMARIES = {
    "serve": "Serve a model over HTTP: the OpenAI API and more.",
    "chat": "Chat with a model in the terminal.",
    "mcp": "Use MCP servers' tools, and be an MCP server.",
    "ide": "Configure editors for a running server.",
    "model": "Fetch, list, inspect, convert and load models.",
    "lora": "Load, convert and merge LoRA adapters.",
    "finetune": "Teach a model from data: adapters, or all of its weights.",
    "quantize": "Quantise a model to GGUF files, and measure what that cost.",
    "feedback": "Turn ratings into data sets, count them, and exchange them.",
    "improve": "Learn from ratings: a new adapter, loaded if it is better.",
    "export-onnx": "Export safetensors to an ONNX Runtime GenAI folder.",
    "bench": "Measure how fast a model is served, here or elsewhere.",
    "doctor": "Say what this machine can run, and what is missing.",
}
"""The subcommands in the order of their help: each is `app` in the module of its name, which has an
underscore for a dash."""

COMPLETION_FLAGS = {"install_completion", "show_completion"}  # typer's; the root has them
BUG_NOTE = (
    "This is a bug in qwenkit, not in what you did. "
    "Please report it to its maintainers, with the lines above."
)


class LazyGroup(TyperGroup):
    """Lists subcommands by their summaries and imports the one that runs."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, summary in SUMMARIES.items():
            self.add_command(TyperCommand(name, help=summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the subcommand that the arguments name and import it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, rest


def load_command(name: str) -> Any:
    """Import a subcommand and make its parser."""
    subapp = import_module(f"qwenkit.cli.{name.replace('-', '_')}").app
    subapp.rich_markup_mode = None  # plain help: the same in a pipe, and nothing to import
    command = typer.main.get_command(subapp)
    command.name = name
    command.params = [each for each in command.params if each.name not in COMPLETION_FLAGS]
    return command


app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qwenkit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """qwenkit takes Qwen3-8B through its whole life on your own machine."""


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    raise SystemExit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run a command line; failures end here.

    Returns:
        The exit code: 0, a `QwenkitError`'s own, 2 for a command line that makes no sense, 130
        after Ctrl-C. A bug passes through with its traceback.
    """
    try:
        code = typer.main.get_command(app).main(
            list(args), prog_name="qwenkit", standalone_mode=False
        )
        sys.stdout.flush()
    except QwenkitError as exc:
        return report(exc)
    except typer.TyperException as exc:
        return _refuse(exc)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except Exception as exc:
        exc.add_note(BUG_NOTE)
        raise
    return code if isinstance(code, int) else 0


def _refuse(exc: typer.TyperException) -> int:
    context = getattr(exc, "ctx", None)
    message = exc.format_message().replace("'", "`")
    if (
        context is not None and exc.format_message() == context.get_help()
    ):  # a group that was called without a command
        typer.echo(exc.format_message(), err=True)
    else:
        command = context.command_path if context is not None else "qwenkit"
        show_failure(message, f"{command} --help")
    return exc.exit_code


def _reader_left() -> int:
    # Python flushes stdout once more at its end, which must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
