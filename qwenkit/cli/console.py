"""Everything that commands show: data on stdout, talk on stderr.

The only importer of rich, and only when something is printed. Colours follow the terminal and
`NO_COLOR`; where stderr is no terminal, progress is one plain line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.progress import ProgressColumn

    from qwenkit.training.watching import Standing

Advance = Callable[[int], None]

PIPE_WIDTH = 10_000
"""A pipe has no width: nothing is wrapped there."""
SECONDS_BETWEEN_LINES = 10.0
"""Where stderr is no terminal, training says so often where it stands."""


def out() -> Console:
    """The console on stdout."""
    from rich.console import Console

    return Console(highlight=False)


def err() -> Console:
    """The console on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """Say something on stderr that is not the command's result."""
    err().print(printable(text), style="dim", markup=False, soft_wrap=True)


def line(text: str, *, style: str = "") -> None:
    """Print a line of the result on stdout."""
    out().print(printable(text), style=style, markup=False, soft_wrap=True)


def size(n_bytes: float) -> str:
    """A number of bytes as a person reads it."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} GB"


def plain(value: Any) -> Any:
    """A dataclass, or a list of them, as JSON can hold it."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def print_json(value: Any) -> None:
    """Print a value on stdout as JSON, indented for a reader."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """Print a value on stdout as one line of JSON, at once."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout, its title above; numbers stand to the right.

    Columns without any name make a list without a head.
    """
    from rich import box
    from rich.table import Table

    headed = any(columns)
    grid = Table(box=box.SIMPLE_HEAD if headed else None, show_header=headed, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        grid.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(value) for value in row))
    console = out()
    if title:
        console.print(printable(title), style="bold", markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(grid)
    console.print()


def spans(parts: Sequence[tuple[str, str, str]]) -> None:
    """Print stretches of one text on stdout.

    Args:
        parts: Text, style, and the pair of marks that stands around it where there is no colour;
            empty for none.
    """
    from rich.text import Text

    console = out()
    coloured = console.color_system is not None and not console.no_color
    whole = Text()
    for text, style, marks in parts:
        shown = printable(text)
        marked = f"{marks[0]}{shown}{marks[1]}" if marks and not coloured else shown
        whole.append(marked, style=style)
    console.print(whole, soft_wrap=True)


def _cell(value: object) -> str:
    from rich.markup import escape

    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else escape(printable(str(value)))


@contextmanager
def progress(description: str, *, total: int | None, unit: str = "B") -> Iterator[Advance]:
    """Show on stderr how far a piece of work is.

    Args:
        description: What is being done.
        total: How much there is to do; None when that is unknown.
        unit: What is counted; `B` is shown as kB, MB and GB.
    """
    console = err()
    if not console.is_terminal:
        note(f"{description} …")
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(*_columns(unit), console=console, transient=True) as bar:
        task = bar.add_task(printable(description), total=total)
        yield lambda n: bar.advance(task, n)


@contextmanager
def training(*, step: int, n_steps: int) -> Iterator[Callable[[Standing], None]]:
    """Show on stderr how a model trains.

    Args:
        step: Steps done before.
        n_steps: Of the whole run.
    """
    console = err()
    if not console.is_terminal:
        yield _PlainSteps().show
        return
    from rich import progress as parts

    columns = (
        parts.TextColumn("training"),
        parts.BarColumn(bar_width=32),
        parts.MofNCompleteColumn(),
        parts.TextColumn("{task.fields[facts]}", markup=False),
    )
    with parts.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=n_steps, completed=step, facts="")
        yield lambda now: bar.update(task, completed=now.step, facts=_facts(now))


class _PlainSteps:
    """Lines of their own, the first and the last, and in between not too many."""

    def __init__(self) -> None:
        self._next = 0.0

    def show(self, now: Standing) -> None:
        if now.step < now.n_steps and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES
        note(f"step {now.step} of {now.n_steps}: {_facts(now)}")


def _facts(now: Standing) -> str:
    parts = [f"loss {now.loss:.3f}"] if now.loss is not None else []
    if now.held_out_loss is not None:
        parts.append(f"held out {now.held_out_loss:.3f}")
    if now.tokens_per_s is not None:
        parts.append(f"{now.tokens_per_s:,.0f} tokens/s")
    if now.eta_s is not None and now.step < now.n_steps:
        parts.append(f"{_time(now.eta_s)} left")
    return " · ".join(parts)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _columns(unit: str) -> list[ProgressColumn | str]:
    from rich import progress as parts

    shown: list[ProgressColumn | str] = [
        parts.TextColumn("{task.description}", markup=False),
        parts.BarColumn(bar_width=32),
    ]
    if unit == "B":
        return [*shown, parts.DownloadColumn(), parts.TransferSpeedColumn()]
    return [*shown, parts.MofNCompleteColumn(), unit, parts.TimeRemainingColumn()]


class LiveArea:
    """The end of the output while it is still being made: kept lines scroll up, a preview changes.

    Use it as a context manager; what is still previewed at its end vanishes.
    """

    def __init__(self) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = out()
        self._live = Live(
            Spinner("dots", style="dim"),
            console=self._console,
            refresh_per_second=12,
            transient=True,
        )
        self._n_blocks = 0

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def keep_markdown(self, block: str) -> None:
        """Print a finished block of Markdown, a blank line after the one before."""
        self._keep(self._markdown(block))
        self._n_blocks += 1

    def keep_dim(self, text: str) -> None:
        """Print finished lines of lesser weight."""
        from rich.text import Text

        self._keep(Text(printable(text), style="dim"))

    def preview_markdown(self, text: str) -> None:
        """Show a block that still grows."""
        self._live.update(_LastLines(self._markdown(text)))

    def preview_dim(self, text: str) -> None:
        """Show a line that still grows, of lesser weight."""
        from rich.text import Text

        self._live.update(_LastLines(Text(printable(text), style="dim")))

    def _keep(self, finished: RenderableType) -> None:
        self._live.update("")
        self._console.print(finished)

    def _markdown(self, text: str) -> _Block:
        from rich.markdown import Markdown

        return _Block(Markdown(printable(text)), gap=self._n_blocks > 0)


class _Block:
    """A renderable without blank lines around it but the gap before it.

    rich puts blank lines around lists, tables and code, more than one between two of them.
    """

    def __init__(self, content: RenderableType, *, gap: bool) -> None:
        self._content = content
        self._gap = gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        lines = console.render_lines(self._content, options, pad=False)
        filled = [i for i, each in enumerate(lines) if any(s.text.strip() for s in each)]
        if filled and self._gap:
            yield Segment.line()
        for each in lines[filled[0] : filled[-1] + 1] if filled else ():
            yield from each
            yield Segment.line()


class _LastLines:
    """Of something to show, as many last lines as the terminal has room for."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        lines = console.render_lines(self._whole, options, pad=False)
        for each in lines[-(console.height - 1) :]:
            yield from each
            yield Segment.line()


_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Take out what would steer the terminal: control characters other than newline and tab."""
    return text.translate(_CONTROLS)


def on_terminal() -> bool:
    """Whether a person types and reads: stdin and stdout are both a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()
