"""`qwenkit feedback`: what people thought of answers, as data sets and as numbers."""

from __future__ import annotations

import typer

from qwenkit.cli.feedback.export import export
from qwenkit.cli.feedback.pull import pull
from qwenkit.cli.feedback.push import push
from qwenkit.cli.feedback.stats import stats

app = typer.Typer(
    no_args_is_help=True, help="Turn ratings into data sets, count them, and exchange them."
)
app.command()(export)
app.command()(stats)
app.command()(push)
app.command()(pull)
