"""The pages that are made from the code say what the code does.

That they are fresh is tested with the command line's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest
from fastapi import FastAPI

from qwenkit import errors
from qwenkit.errors import QwenkitError
from qwenkit.server.app import create_app
from qwenkit.settings import Settings

from .pages import DOCS

REFERENCE = DOCS / "reference"


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(Settings(_env_file=None))


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    return import_module("http_page")


def test_every_route_of_the_document_has_its_heading(app: FastAPI) -> None:
    document = app.openapi()
    routes = {
        f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item
    }
    page = (REFERENCE / "http.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### `([A-Z]+ /[^`]*)`$", page, re.MULTILINE)) == routes


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("POST", "/v1/chat/completions", "user"),
        ("GET", "/metrics", "user"),
        ("GET", "/healthz", "open"),
        ("POST", "/admin/reload", "admin"),
        ("DELETE", "/admin/adapters/{name}", "admin"),
        ("GET", "/v1/feedback/answers", "admin"),
    ],
)
def test_a_route_says_which_role_it_takes(
    method: str, path: str, role: str, app: FastAPI, maker: ModuleType
) -> None:
    assert maker.roles_of(app)[method, path] == role


def test_a_field_is_shown_with_its_kind_its_bounds_and_its_default(maker: ModuleType) -> None:
    schema = {
        "type": "integer",
        "minimum": 1,
        "maximum": 5,
        "default": 3,
        "description": "How\n many.",
    }
    assert maker._row("n", schema, schema) == (
        "`n`",
        "integer, at least 1, at most 5",
        "How many. Default: `3`.",
    )


def kinds(kind: type[QwenkitError]) -> Iterator[type[QwenkitError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from kinds(child)


def test_every_exit_code_of_a_failure_is_on_the_page_of_commands() -> None:
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    shown = set(
        map(int, re.findall(r"^\| (\d+) \|", page.partition("## Exit codes")[2], re.MULTILINE))
    )
    assert {kind.exit_code for kind in kinds(QwenkitError)} <= shown


def test_the_page_on_errors_names_all_of_them() -> None:
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    assert {kind.__name__ for kind in kinds(QwenkitError)} <= set(re.findall(r"`(\w+)`", page))


def test_the_cache_of_a_token_is_what_the_page_on_hardware_reckons() -> None:
    page = (DOCS / "concepts" / "hardware.md").read_text(encoding="utf-8")
    (factors,) = re.findall(r"^(2 .+) = ([\d,]+) bytes = (\d+) KiB", page, re.MULTILINE)
    product = 1
    for number in re.findall(r"(?:^|x )(\d+)", factors[0]):
        product *= int(number)
    assert product == int(factors[1].replace(",", "")) == int(factors[2]) * 1024


def test_no_made_page_shows_where_something_lay_in_memory() -> None:
    for page in REFERENCE.glob("*.md"):
        assert " at 0x" not in page.read_text(encoding="utf-8"), page.name
