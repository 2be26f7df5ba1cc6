"""Imports point down, and only the rim reads settings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import qwenkit

PACKAGE = Path(qwenkit.__file__).parent

# Top to bottom; a layer imports from those below it. Names on one line are siblings, which don't
# import each other.
LAYERS = (
    ("cli",),
    ("doctor", "bench", "improve", "cluster", "ide"),
    ("server", "training"),
    ("agent",),
    ("mcp",),
    ("feedback",),
    ("quantize",),
    ("quality",),
    ("chat",),
    ("engine",),
    ("backends",),
    ("export",),
    ("adapters",),
    ("picture", "ui"),
    ("models",),
    ("settings",),
    ("extras",),
    ("errors",),
)
RANK = {name: rank for rank, names in enumerate(reversed(LAYERS)) for name in names}

# Each with its reason.
EXCEPTIONS = {
    # The values of a request are the engine's words; the backends never see them.
}
READS_SETTINGS = (
    "cli",
    *(f"server/{name}.py" for name in ("app", "plans", "rereading", "run")),
    "settings.py",
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def area(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, [alias.name for alias in node.names]


@pytest.mark.parametrize("module", modules(), ids=lambda m: str(m.relative_to(PACKAGE)))
def test_imports_point_down(module: Path) -> None:
    own = area(module)
    if own in ("__init__", "__main__"):
        return
    for name, _ in imports(module):
        if not name.startswith("qwenkit."):
            continue
        other = name.split(".")[1]
        if other != own:
            assert RANK[other] < RANK[own], f"{module} imports {name}"


def test_only_the_rim_reads_settings() -> None:
    readers = {
        str(module.relative_to(PACKAGE))
        for module in modules()
        for name, names in imports(module)
        if name == "qwenkit.settings" and "Settings" in names
    }
    assert all(reader.startswith(READS_SETTINGS) for reader in readers), readers


def test_rich_is_imported_in_one_place() -> None:
    importers = {
        str(module.relative_to(PACKAGE))
        for module in modules()
        for name, _ in imports(module)
        if name.split(".")[0] == "rich"
    }
    assert importers == {"cli/console.py"}
