"""The chat page at `/`: its files, what browsers may keep of them and what it may load.

Knows a folder of built files and HTTP's caching; nothing of what the page does.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from qwenkit.ui import DIST, WEB

INDEX = "index.html"
ASSETS = "assets"
ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""What a file may be there as, beside itself, smallest first; and the ending of its name."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The page may load nothing but its own files and talk to nobody but its own server."""
SAFETY = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
REVALIDATE = "no-cache"
FOREVER = "public, max-age=31536000, immutable"

HOW_TO_BUILD = (
    "python -m qwenkit.ui.build"
    if WEB.is_dir()
    else "pip install --force-reinstall --no-deps --no-cache-dir qwenkit"
)
NOT_BUILT = f"""qwenkit serves, but this installation was made without the chat page.

Build it, and load this page again:

    {HOW_TO_BUILD}

The API needs no page: it is at /v1, the agent at /agent, its description at /openapi.json.
"""
NOT_BUILT_HTML = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>qwenkit</title>
<main>
<h1>The chat page is not built</h1>
<p>qwenkit serves, but this installation was made without the chat page.</p>
<p>Build it, and load this page again:</p>
<pre><code>{HOW_TO_BUILD}</code></pre>
<p>The API needs no page: it is at <code>/v1</code>, the agent at <code>/agent</code>,
its description at <code>/openapi.json</code>.</p>
</main>
</html>
"""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page.

    Args:
        media_type: Its `Content-Type`.
        digest: Changes with its content.
        contents: Its bytes by their `Content-Encoding`; `identity` is the file itself.
    """

    media_type: str
    digest: str
    contents: Mapping[str, bytes]


class Page:
    """The files of the built page, in memory; read again when it has been built anew.

    Only what was found in the folder can be asked for, so no path leads out of it.

    Args:
        folder: Where it was built to.
    """

    def __init__(self, folder: Path = DIST) -> None:
        self._folder = folder
        self._build: tuple[int, int] | None = None
        self._files: Mapping[str, PageFile] = {}

    @property
    def is_built(self) -> bool:
        """Whether there is a page."""
        return self._latest_build() is not None

    def file(self, name: str) -> PageFile | None:
        """A file by its path in the folder; None where there is none of that name."""
        build = self._latest_build()
        if build != self._build:
            self._files = {} if build is None else dict(_read(self._folder))
            self._build = build
        return self._files.get(name)

    def _latest_build(self) -> tuple[int, int] | None:
        try:
            status = (self._folder / INDEX).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


@router.api_route("/", methods=["GET", "HEAD"])
def index(request: Request) -> Response:
    """The page, or how to build it."""
    file = _page(request).file(INDEX)
    if file is None:
        return _not_built(request)
    return _answer(request, file, {"Cache-Control": REVALIDATE, "Content-Security-Policy": POLICY})


@router.api_route(f"/{ASSETS}/{{name:path}}", methods=["GET", "HEAD"])
def asset(name: str, request: Request) -> Response:
    """A file of the page; its name changes with its content."""
    file = _page(request).file(f"{ASSETS}/{name}")
    if file is None:
        raise HTTPException(404)
    return _answer(request, file, {"Cache-Control": FOREVER})


def _page(request: Request) -> Page:
    page: Page = request.app.state.page
    return page


def _read(folder: Path) -> Iterator[tuple[str, PageFile]]:
    for path in (folder / INDEX, *sorted((folder / ASSETS).rglob("*"))):
        if path.is_file() and path.suffix not in ENCODINGS.values():
            yield path.relative_to(folder).as_posix(), _read_file(path)


def _read_file(path: Path) -> PageFile:
    content = path.read_bytes()
    contents = {"identity": content}
    for encoding, ending in ENCODINGS.items():
        encoded = path.with_name(path.name + ending)
        if encoded.is_file():
            contents[encoding] = encoded.read_bytes()
    return PageFile(_media_type(path), hashlib.sha256(content).hexdigest()[:20], contents)


def _media_type(path: Path) -> str:
    # Not left to the system, whose own list may call scripts plain text.
    known = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    found = known.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    media_type = found or "application/octet-stream"
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def _answer(request: Request, file: PageFile, headers: Mapping[str, str]) -> Response:
    encoding = choose_encoding(request.headers, file.contents)
    # Each encoding is another sequence of bytes, so each has its own strong tag.
    tag = f'"{file.digest}-{encoding}"'
    headers = {"ETag": tag, "Vary": "Accept-Encoding", **SAFETY, **headers}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    if encoding != "identity":
        headers = {**headers, "Content-Encoding": encoding}
    return _whole(request, file.contents[encoding], headers, file.media_type)


def _whole(
    request: Request, content: bytes, headers: Mapping[str, str], media_type: str, status: int = 200
) -> Response:
    headers = {**headers, "Content-Length": str(len(content)), "Content-Type": media_type}
    return Response(b"" if request.method == "HEAD" else content, status, headers)


def choose_encoding(headers: Headers, offered: Mapping[str, bytes]) -> str:
    """The smallest of the encodings that the client takes (RFC 9110, section 12.5.3)."""
    accepted = dict(map(_coding, headers.get("accept-encoding", "").lower().split(",")))
    others = accepted.get("*", 0.0)
    wanted = (each for each in ENCODINGS if accepted.get(each, others) > 0)
    return next((each for each in wanted if each in offered), "identity")


def _coding(field: str) -> tuple[str, float]:
    name, _, parameter = field.partition(";")
    weight = parameter.strip().removeprefix("q=")
    try:
        return name.strip(), float(weight or 1)
    except ValueError:
        return name.strip(), 0.0


def _has(tags: str, tag: str) -> bool:
    given = [each.strip().removeprefix("W/") for each in tags.split(",")]
    return tag in given or "*" in given


def _not_built(request: Request) -> Response:
    wants_html = "text/html" in request.headers.get("accept", "")
    text, media_type = (NOT_BUILT_HTML, "text/html") if wants_html else (NOT_BUILT, "text/plain")
    headers = {"Cache-Control": "no-store", "Vary": "Accept", **SAFETY}
    return _whole(request, text.encode(), headers, f"{media_type}; charset=utf-8", 404)
