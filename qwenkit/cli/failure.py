"""How a failure is shown: one sentence, then what to do about it, both on stderr."""

from __future__ import annotations

import typer

from qwenkit.errors import QwenkitError

EXIT_INTERRUPTED = 130
"""What a command ends with after Ctrl-C."""


def show_failure(message: str, hint: str = "") -> None:
    """Print a failure and, if there is one, the next step."""
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)


def report(exc: QwenkitError) -> int:
    """Show one of our own failures; returns the exit code it ends a command with."""
    show_failure(exc.message, exc.hint)
    return exc.exit_code
