"""What the pages name is there: files, commands, flags, settings, modules. Nothing is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import qwenkit
from qwenkit.cli.app import app, load_command
from qwenkit.settings import Settings

from .given import GIVEN
from .pages import DOCS, GUIDES, Block, blocks, commands, shows

PACKAGE = Path(qwenkit.__file__).parent
WRITTEN = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page.parent.name != "reference" and page.name != "changelog.md"
]
MOST_NOT_RUN = 0.5
"""The share of all blocks that may stay untried."""

names = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)


def code_of(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.is_code]


@names
def test_what_is_not_run_has_a_reason_and_what_is_given_is_known(page: Path) -> None:
    for block in blocks(page):
        assert block.not_run is None or len(block.not_run.split()) >= 2, block.line
        assert set(block.given) <= set(GIVEN), block.line


def test_most_of_what_the_guides_show_is_run() -> None:
    shown = [block for guide in GUIDES.glob("*.md") for block in code_of(guide)]
    untried = [block for block in shown if block.not_run is not None]
    assert shown
    assert len(untried) <= MOST_NOT_RUN * len(shown)


def typed(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Every call of `qwenkit` that a page shows, run or not."""
    for block in blocks(page):
        if block.language == "console":
            for command in commands(block.text):
                words = shlex.split(command.text.replace("\\\n", " "), comments=True)
                for call in split(words):
                    if "qwenkit" in call:
                        yield block.line, call[call.index("qwenkit") + 1 :]


def split(words: list[str]) -> list[list[str]]:
    """The parts of a pipeline."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("|", "&&", ";"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


@names
def test_every_command_and_flag_that_a_page_shows_exists(page: Path) -> None:
    for line, words in typed(page):
        command, rest = command_of(words)
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert used <= known | {"--help"}, f"{page.name}:{line}: {sorted(used - known)}"


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words behind its name."""
    if not words or words[0].startswith("-"):
        return typer.main.get_command(app), words
    assert is_there("cli", words[0].replace("-", "_")), words
    command, rest = load_command(words[0]), words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


VARIABLE = re.compile(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:=[^`]*)?`")
OTHERS = re.compile(
    r"I?Q\d|CMAKE_ARGS|NODE_MODULES|QWENKIT_BUILD_UI|QWENKIT_KEY|SSRF_PROTECTION_ENABLED|"
    r"(?:ANTHROPIC|COMPOSE|CONTINUE|CUDA|GGML|GLOO|HF|NCCL|NEXT_PUBLIC|OLLAMA|OTEL|RAY|SQLITE)_"
)
"""Number formats, and variables of other programs."""
COMPOSE = DOCS.parent / "compose"


def known_variables() -> set[str]:
    of_compose = {
        name
        for file in COMPOSE.glob("*.yml")
        for name in re.findall(r"\$\{(\w+)", file.read_text(encoding="utf-8"))
    }
    return {name.upper() for name in Settings.model_fields} | of_compose


@names
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    named = set(VARIABLE.findall(page.read_text(encoding="utf-8")))
    assert {name for name in named - known_variables() if not OTHERS.match(name)} == set()


def areas() -> list[str]:
    return sorted(
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() or path.suffix == ".py") and not path.name.startswith(("_", "guides"))
    )


def test_the_page_on_layers_names_every_package() -> None:
    text = (DOCS / "concepts" / "layers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == areas()


MODULE = re.compile(rf"(?<![\w/])({'|'.join(areas())})[./](\w+)")


def is_there(area: str, name: str) -> bool:
    folder = PACKAGE / area
    return (folder / name).is_dir() or (folder / f"{name}.py").exists()


@pytest.mark.parametrize("page", sorted((DOCS / "concepts").glob("*.md")), ids=lambda p: p.stem)
def test_every_module_in_the_diagrams_exists(page: Path) -> None:
    drawn = [block.text for block in blocks(page) if not block.language]
    named = {found for text in drawn for found in MODULE.findall(text)}
    missing = {f"{area}.{name}" for area, name in named if not is_there(area, name)}
    assert missing == set()


PAGE = """# A page

<!-- given: pairs -->
```console
$ one --two \\
    three
it printed
$ four '{
    "five": 6}'
```

<!-- not run: there is no Hub -->
<!-- exit code: 2 -->

```python title="mine.py"
x = 1
```

Words.

  ```text title="output"
  x
  ```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_blocks_are_found_with_the_remarks_before_them(page: Path) -> None:
    console, python, output = blocks(page)
    assert (console.language, console.given, console.not_run) == ("console", ("pairs",), None)
    assert (python.title, python.is_file, python.exit_code) == ("mine.py", True, 2)
    assert python.not_run == "there is no Hub"
    assert (output.title, output.text, output.not_run) == ("output", "x\n", None)


def test_commands_go_on_behind_a_backslash_and_within_quotes(page: Path) -> None:
    first, second = commands(blocks(page)[0].text)
    assert (first.text, first.shown) == ("one --two \\\n    three", ("it printed",))
    assert (second.text, second.shown) == ("four '{\n    \"five\": 6}'", ())


@pytest.mark.parametrize(
    ("line", "printed", "is_shown"),
    [
        ("poet 3f9c2a71d04be815", "poet 00aa11bb22cc33dd", True),
        ("poet 3f9c2a71d04be815", "sage 00aa11bb22cc33dd", False),
        ("12 ratings are new", "talk\n  3 ratings   are new\n", True),
        ("12 ratings are new", "no ratings are new", False),
        ("rank 16 on q_proj, 175 MB", "rank 4 on q_proj, 2 kB", True),
        ("at most 0.0e+00", "at most 1.5e-07", True),
        ("qwenkit is …", "qwenkit is a toolkit.", True),
        ("qwenkit is …", "what qwenkit is", False),
    ],
)
def test_a_line_is_shown_but_for_its_numbers(line: str, printed: str, is_shown: bool) -> None:
    assert shows(line, printed) is is_shown
