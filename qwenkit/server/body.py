"""Reads a request's body as strict JSON. Knows bytes and routes; not what the fields mean.

Refused, with the field named where there is one: text that is no JSON or no UTF-8, NaN and
infinities, lone surrogates, and nesting deep enough to hurt whoever walks it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from qwenkit.errors import InvalidRequest
from qwenkit.server.errors import ClientGone, WrongMediaType, spell_path

MAX_DEPTH = 100

Path = tuple[int | str, ...]


class StrictRoute(APIRoute):
    """A route whose body is read by `parse`."""

    takes: type[dict[str, Any]] | type[list[Any]] = dict

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler over a request that parses strictly."""
        handler = super().get_route_handler()
        kind = self.takes

        async def strict_handler(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            strict.takes = kind
            if self.body_field is not None:
                # Read here: an error raised inside FastAPI's own reading loses its message.
                await strict.json()
            return await handler(strict)

        return strict_handler


class StrictListRoute(StrictRoute):
    """The same for a body that is a list."""

    takes = list


class _StrictRequest(Request):
    takes: type[dict[str, Any]] | type[list[Any]] = dict

    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            self._parsed = parse(await self._declared_body(), kind=self.takes)
        return self._parsed

    async def _declared_body(self) -> bytes:
        try:
            body = await self.body()
        except ClientDisconnect as exc:
            raise ClientGone("the client closed the connection within its body") from exc
        # A web page can post any other type across origins without asking (no CORS preflight).
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and media_type != "application/json" and not media_type.endswith("+json"):
            raise WrongMediaType(
                f"the body's type is {media_type or 'not given'}",
                hint="send the header Content-Type: application/json",
            )
        return body


def parse(body: bytes, *, kind: type[dict[str, Any]] | type[list[Any]] = dict) -> Any:
    """The object of a JSON text.

    Args:
        kind: `list` for a list instead.

    Raises:
        InvalidRequest: It is no JSON, or holds something that JSON can't or that we won't take.
    """
    try:
        text = body.decode("utf-8-sig")
        value = _decode(text)
    except json.JSONDecodeError as exc:
        raise InvalidRequest(
            f"the body is no JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}"
        ) from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"the body is no UTF-8 at byte {exc.start}") from exc
    except RecursionError as exc:
        raise _too_deep() from exc
    except ValueError as exc:  # a whole number of thousands of digits
        raise InvalidRequest("the body has a number that is too long") from exc
    if not isinstance(value, kind):
        raise InvalidRequest(f"the body must be a JSON {'list' if kind is list else 'object'}")
    return value


class _NotFinite(Exception):
    """A number that is NaN or infinite; where, is not known yet."""


def _decode(text: str) -> Any:
    try:
        value = _STRICT.decode(text)
    except _NotFinite:
        value = json.loads(text)
        _inspect(value)
        raise
    if text.count("[") + text.count("{") > MAX_DEPTH or _SURROGATE_ESCAPE.search(text):
        _inspect(value)
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _NotFinite
    return number


def _refuse(_: str) -> NoReturn:
    raise _NotFinite


_STRICT = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _inspect(value: Any) -> None:
    for path, item in _walk(value):
        if isinstance(item, float) and not math.isfinite(item):
            raise InvalidRequest(f"{spell_path(path)} is no finite number", param=spell_path(path))
        if isinstance(item, str) and not _encodable(item):
            raise InvalidRequest(
                f"{spell_path(path)} has a lone surrogate, which is no character",
                param=spell_path(path),
            )


def _walk(value: Any) -> Iterator[tuple[Path, Any]]:
    """Every number and string with its path; a key counts as found at its object's path."""
    pending: list[tuple[Path, Any]] = [((), value)]
    while pending:
        path, item = pending.pop()
        if len(path) > MAX_DEPTH:
            raise _too_deep()
        if isinstance(item, dict):
            yield from ((path, key) for key in item)
            pending += [((*path, key), child) for key, child in item.items()]
        elif isinstance(item, list):
            pending += [((*path, index), child) for index, child in enumerate(item)]
        else:
            yield path, item


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"the body is nested over {MAX_DEPTH} levels deep")
