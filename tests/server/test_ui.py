"""The page at `/`, and what it may ask before it has a key."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

import qwenkit
from qwenkit.server.ui import Page

pytestmark = pytest.mark.anyio

HTML = b'<!doctype html><script type="module" src="/assets/app-1a2b.js"></script>'
SCRIPT = b"console.log('hello');" * 100
ZIPPED = gzip.compress(SCRIPT)
KEYS = {"api_keys": "user-key", "admin_api_keys": "admin-key"}


def write_page(folder: Path, html: bytes = HTML) -> Path:
    assets = folder / "assets"
    (assets / "fonts").mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_bytes(html)
    (folder / "source.sha256").write_text("0" * 64, encoding="ascii")
    (assets / "app-1a2b.js").write_bytes(SCRIPT)
    (assets / "app-1a2b.js.gz").write_bytes(ZIPPED)
    (assets / "app-1a2b.js.br").write_bytes(b"brotli")
    (assets / "app-1a2b.css").write_bytes(b"body{}")
    (assets / "fonts" / "a.woff2").write_bytes(b"font")
    return folder


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return write_page(tmp_path / "page")


@pytest.fixture
async def client(
    make_app: Callable[..., Any], run: Callable[..., Any], page: Path
) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(**KEYS)
    app.state.page = Page(page)
    async with run(app) as client:
        client.headers["accept-encoding"] = "identity"
        yield client


@pytest.fixture
async def without_page(
    make_app: Callable[..., Any], run: Callable[..., Any], tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(**KEYS)
    app.state.page = Page(tmp_path / "nothing")
    async with run(app) as client:
        yield client


async def test_the_page_opens_without_a_key_and_is_asked_for_anew_each_time(client):
    reply = await client.get("/")
    assert (reply.status_code, reply.content) == (200, HTML)
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"


async def test_the_page_may_load_nothing_from_elsewhere_and_run_nothing_written_into_it(client):
    policy = (await client.get("/")).headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert (rules["script-src"], rules["connect-src"]) == ("'self'", "'self'")
    assert rules["frame-ancestors"] == "'none'"
    sources = {source for rule in rules.values() for source in rule.split()}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}
    assert [name for name, rule in rules.items() if "unsafe-inline" in rule] == ["style-src"]


async def test_nothing_is_taken_for_another_type_than_it_is_sent_as(client):
    for path in ("/", "/assets/app-1a2b.js"):
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("app-1a2b.js", "text/javascript; charset=utf-8"),
        ("app-1a2b.css", "text/css; charset=utf-8"),
        ("fonts/a.woff2", "font/woff2"),
    ],
)
async def test_the_files_of_the_page_are_kept_forever(client, name, media_type):
    reply = await client.get(f"/assets/{name}")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == media_type
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("br;q=0.1, gzip;q=1.0", "br"),
        ("GZIP", "gzip"),
        ("br;q=0, *", "gzip"),
        ("*;q=0", None),
        ("br;q=zero", None),
        ("deflate", None),
        ("", None),
    ],
)
async def test_a_file_comes_in_the_smallest_encoding_that_is_taken(client, accepted, encoding):
    async with client.stream(
        "GET", "/assets/app-1a2b.js", headers={"accept-encoding": accepted}
    ) as reply:
        sent = b"".join([piece async for piece in reply.aiter_raw()])
    assert reply.headers.get("content-encoding") == encoding
    assert "Accept-Encoding" in reply.headers["vary"].split(", ")
    assert sent == {"br": b"brotli", "gzip": ZIPPED, None: SCRIPT}[encoding]


async def test_a_file_that_was_not_compressed_comes_as_it_is(client):
    reply = await client.get("/assets/app-1a2b.css", headers={"accept-encoding": "br"})
    assert reply.content == b"body{}"
    assert "content-encoding" not in reply.headers


@pytest.mark.parametrize("path", ["/", "/assets/app-1a2b.js"])
async def test_what_a_browser_has_already_is_not_sent_again(client, path):
    tag = (await client.get(path)).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        reply = await client.get(path, headers={"if-none-match": known})
        assert (reply.status_code, reply.content) == (304, b"")
        assert reply.headers["etag"] == tag
        assert "cache-control" in reply.headers
    reply = await client.get(path, headers={"if-none-match": '"other"'})
    assert reply.status_code == 200


async def test_each_encoding_has_a_tag_of_its_own(client):
    tags = {
        (await client.head("/assets/app-1a2b.js", headers={"accept-encoding": encoding})).headers[
            "etag"
        ]
        for encoding in ("br", "gzip", "identity")
    }
    assert len(tags) == 3


@pytest.mark.parametrize("path", ["/", "/assets/app-1a2b.js"])
async def test_head_says_what_get_would(client, path):
    head, got = await client.head(path), await client.get(path)
    assert head.status_code == 200
    assert head.content == b""
    del head.headers["x-request-id"], got.headers["x-request-id"]
    assert head.headers == got.headers
    assert head.headers["content-length"] == str(len(got.content))


LEADING_OUT = (
    "/assets/",
    "/assets/nothing.js",
    "/assets/app-1a2b.js.gz",
    "/assets/fonts",
    "/assets/../index.html",
    "/assets/%2e%2e/source.sha256",
    "/assets/..%2fsource.sha256",
    "/assets/%2fetc%2fpasswd",
    "/assets//etc/passwd",
    "/assets/fonts/..%5c..%5csource.sha256",
    "/assets/app-1a2b.js%00",
    "/assets/" + "../" * 12 + "etc/passwd",
    "/assets/../v1/models",
    "/assets/%2e%2e/v1/models",
    "/assets/../admin/status",
)


def test_no_path_leads_from_the_open_folder_to_anything_else(make_app, listening, page):
    app = make_app(**KEYS)
    app.state.page = Page(page)
    with listening(app) as url:
        # httpx would tidy the paths up before sending them.
        connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
        for path in LEADING_OUT:
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read()
            assert (path, reply.status) == (path, 404)
            assert b"no route" in body
        connection.request("GET", "/assetsx")
        assert connection.getresponse().status == 401
        connection.close()


async def test_a_page_in_use_stays_whole_while_its_files_are_replaced(client, page):
    await client.get("/")
    (page / "assets" / "app-1a2b.js").unlink()
    assert (await client.get("/assets/app-1a2b.js")).content == SCRIPT


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_the_page_is_only_read(client, method):
    headers = {"authorization": "Bearer admin-key"}
    reply = await client.request(method, "/", json={}, headers=headers)
    assert reply.status_code == 405


async def test_a_page_that_is_built_anew_is_served_without_a_restart(client, page):
    assert (await client.get("/")).content == HTML
    newer = write_page(page.with_name("newer"), b"<!doctype html>newer")
    (newer / "assets" / "app-1a2b.js").rename(newer / "assets" / "app-3c4d.js")
    page.rename(page.with_name("older"))
    newer.rename(page)
    assert (await client.get("/")).content == b"<!doctype html>newer"
    assert (await client.get("/assets/app-3c4d.js")).status_code == 200
    assert (await client.get("/assets/app-1a2b.js")).status_code == 404


async def test_without_a_built_page_a_browser_is_told_how_to_build_it(without_page):
    reply = await without_page.get("/", headers={"accept": "text/html,*/*;q=0.8"})
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "python -m qwenkit.ui.build" in reply.text
    assert reply.headers["cache-control"] == "no-store"
    assert not re.search("<script|<link|src=", reply.text)


async def test_without_a_built_page_a_program_is_told_in_plain_text(without_page):
    reply = await without_page.get("/")
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert "python -m qwenkit.ui.build" in reply.text
    assert "<" not in reply.text


async def test_without_a_built_page_the_api_serves_all_the_same(without_page):
    headers = {"authorization": "Bearer user-key"}
    assert (await without_page.get("/v1/models", headers=headers)).status_code == 200
    assert (await without_page.get("/assets/app.js")).status_code == 404


async def test_a_page_that_is_built_while_the_server_runs_is_there_at_the_next_request(
    without_page, tmp_path
):
    assert (await without_page.get("/")).status_code == 404
    write_page(tmp_path / "nothing")
    assert (await without_page.get("/")).content == HTML


@pytest.mark.parametrize(
    ("key", "role"), [("user-key", "user"), ("admin-key", "admin"), ("wrong", "nobody")]
)
async def test_who_one_is_depends_on_the_key(client, key, role):
    reply = await client.get("/v1/me", headers={"authorization": f"Bearer {key}"})
    assert reply.status_code == 200
    assert reply.json()["role"] == role


async def test_without_a_key_one_learns_that_a_key_is_needed_and_no_more(client):
    assert (await client.get("/v1/me")).json() == {
        "role": "nobody",
        "needs_key": True,
        "features": {"agent": True, "feedback": True, "mcp": True},
        "version": qwenkit.__version__,
    }


async def test_on_a_server_without_keys_everyone_is_told_to_be_admin(make_app, run):
    async with run(make_app()) as client:
        me = (await client.get("/v1/me")).json()
    assert (me["role"], me["needs_key"]) == ("admin", False)


async def test_the_page_is_no_part_of_the_described_api(client):
    headers = {"authorization": "Bearer user-key"}
    paths = (await client.get("/openapi.json", headers=headers)).json()["paths"]
    assert "/v1/me" in paths
    assert not {"/", "/assets/{name}"} & paths.keys()


async def test_ratings_are_not_offered_where_answers_are_not_logged(make_app, run):
    async with run(make_app(log_answers="off")) as client:
        assert (await client.get("/v1/me")).json()["features"]["feedback"] is False
