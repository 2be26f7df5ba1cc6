"""Makes the reference pages from the code: `python docs/generate.py`; `--check` only compares.

The commands come from the command line's own help, the settings from their docstrings.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from errors_page import errors_page
from hardware_page import hardware_page
from http_page import http_page
from metrics_page import metrics_page
from pydantic.fields import FieldInfo
from python_page import python_page

from qwenkit.cli.app import SUMMARIES, app, load_command
from qwenkit.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
MADE_BY = "made by docs/generate.py; edit the code's docstrings instead"
HELP_WIDTH = 88
CLI_INTRODUCTION = (
    "Data goes to stdout, everything else to stderr. A failure is one sentence and a hint on "
    "stderr; [the exit code](#exit-codes) says of which kind."
)
SETTINGS_INTRODUCTION = (
    "Read from the environment and from `.env` in the working folder. A command's flag wins over "
    "the environment, which wins over `.env`; `qwenkit doctor` shows what is in effect."
)
EXIT_CODES = """## Exit codes

| Code | Meaning |
|---|---|
| 0 | It worked. |
| 1 | A bug (with a traceback), or `doctor` found something broken. |
| 2 | The command line, a request or a setting is wrong. |
| 3 | An optional package is missing. |
| 4 | A model can't be found, fetched or read. |
| 5 | The engine failed or is out of memory. |
| 6 | Serving failed, or another server did. |
| 7 | The log of answers and ratings failed. |
| 10, 11 | `improve`: the adapter is not better; there are too few ratings. |
| 130 | Ctrl-C. |"""
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most"}


def cli_page() -> str:
    """The page on all commands: what `--help` prints."""
    parts = [
        "# Commands",
        f"<!-- {MADE_BY} -->",
        CLI_INTRODUCTION,
    ]
    root: Any = typer.main.get_command(app)
    parts += _command_part("qwenkit", root, None)
    context = root.make_context("qwenkit", ["doctor"], resilient_parsing=True)
    for name in SUMMARIES:
        parts += _command_parts(f"qwenkit {name}", load_command(name), context)
    return "\n\n".join([*parts, EXIT_CODES]) + "\n"


def _command_parts(title: str, command: Any, parent: Any) -> Iterator[str]:
    yield from _command_part(title, command, parent)
    context = command.context_class(command, info_name=title.split()[-1], parent=parent)
    for name, child in getattr(command, "commands", {}).items():
        yield from _command_parts(f"{title} {name}", child, context)


def _command_part(title: str, command: Any, parent: Any) -> Iterator[str]:
    context = command.context_class(
        command, info_name=title.split()[-1], parent=parent, terminal_width=HELP_WIDTH
    )
    help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"## `{title}`"
    yield f"```text\n{help_text}\n```"


def settings_page() -> str:
    """The page on all settings."""
    parts = [
        "# Settings",
        f"<!-- {MADE_BY} -->",
        SETTINGS_INTRODUCTION,
    ]
    for name, field in Settings.model_fields.items():
        parts += [f"## `{name.upper()}`", _prose(field), _facts(field)]
    return "\n\n".join(parts) + "\n"


def _facts(field: FieldInfo) -> str:
    default = _spelled(field.default)
    limits = [
        f"{words} {getattr(bound, attribute):,}"
        for bound in field.metadata
        for attribute, words in BOUNDS.items()
        if hasattr(bound, attribute)
    ]
    return "; ".join([f"Default: {f'`{default}`' if default else 'empty'}", *limits]) + "."


def env_example() -> str:
    """The file of all settings, each commented out at its default."""
    lines = [f"# qwenkit's settings, at their defaults ({MADE_BY}).", "# Copy this to .env."]
    for name, field in Settings.model_fields.items():
        lines += ["", *(f"# {line}" for line in (field.description or "").splitlines())]
        lines.append(f"#{name.upper()}={_spelled(field.default)}")
    return "\n".join(lines) + "\n"


def _prose(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _spelled(default: object) -> str:
    """A default as one writes it into the environment."""
    if default is None or default == ():
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


PAGES = {
    ROOT / "docs/reference/cli.md": cli_page,
    ROOT / "docs/reference/settings.md": settings_page,
    ROOT / "docs/reference/metrics.md": metrics_page,
    ROOT / "docs/concepts/hardware.md": hardware_page,
    ROOT / "docs/reference/http.md": http_page,
    ROOT / "docs/reference/errors.md": errors_page,
    ROOT / "docs/reference/python.md": python_page,
    ROOT / ".env.example": env_example,
}


def main() -> int:
    """Write the pages, or say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args().check
    stale = [path for path, make in PAGES.items() if not _settle(path, make(), check=check)]
    return 1 if stale else 0


def _settle(path: Path, wanted: str, *, check: bool) -> bool:
    is_there = path.read_text(encoding="utf-8") if path.exists() else ""
    if is_there == wanted:
        return True
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
        return True
    diff = difflib.unified_diff(is_there.splitlines(), wanted.splitlines(), "committed", "wanted")
    print(f"{path.relative_to(ROOT)} is stale: run python docs/generate.py", file=sys.stderr)
    print("\n".join(list(diff)[:20]), file=sys.stderr)
    return False


if __name__ == "__main__":
    raise SystemExit(main())
