"""Turns every failure into an answer in OpenAI's error shape. Knows HTTP; raises nothing itself.

`{"error": {"message", "type", "param", "code"}}`, and in a stream the same as its last event.
Routes of another API set a spelling of their own (`errors_spelled`).
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenkit.errors import (
    AdapterUnsupported,
    ContextOverflow,
    DownloadFailed,
    EngineBusy,
    EngineStopped,
    InvalidGrammar,
    InvalidRequest,
    InvalidSettings,
    LogUnreadable,
    LogUnwritable,
    MissingExtra,
    ModelCorrupt,
    ModelNotFound,
    ModelUnsupported,
    OutOfMemory,
    QwenkitError,
    RemoteError,
    RemoteUnreachable,
    ServerError,
    UnknownAdapter,
    UnknownMcpServer,
    UnknownModel,
)

logger = logging.getLogger(__name__)

LOADING_RETRY_S = 5.0
STOPPING_RETRY_S = 10.0


class Unauthorized(ServerError):
    """The request carries no valid key."""


class Forbidden(ServerError):
    """The request's key, origin or host does not allow this."""


class NotReady(ServerError):
    """The model is not loaded."""


class ClientGone(ServerError):
    """The client closed the connection before its answer was ready."""


class AnswersRunning(ServerError):
    """Answers that run took too long to end for the model to be replaced."""


class Conflict(InvalidRequest):
    """What is asked for contradicts what is there."""


class NotThere(InvalidRequest):
    """There is nothing of that id."""


class PreviousResponseNotFound(InvalidRequest):
    """The response that is gone on from is not kept."""


class ReloadRunning(Conflict):
    """Another model is being loaded already."""


class BodyTooLarge(InvalidRequest):
    """The request's body is over the limit."""


class WrongMediaType(InvalidRequest):
    """The request's body is not declared to be JSON."""


class HeadTooLarge(InvalidRequest):
    """The request's headers are over the limit."""


class TooSlow(InvalidRequest):
    """The client took too long to send its request."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a class of failures is answered.

    Args:
        status: HTTP status.
        type: OpenAI's `type`.
        code: OpenAI's `code`.
        retry_after_s: Value of `Retry-After` when the failure itself names none.
    """

    status: int
    type: str
    code: str | None = None
    retry_after_s: float | None = None


# Looked up along the exception's MRO, so a new error inherits its parent's answer.
KINDS: dict[type[BaseException], Kind] = {
    InvalidRequest: Kind(400, "invalid_request_error"),
    ContextOverflow: Kind(400, "invalid_request_error", "context_length_exceeded"),
    InvalidGrammar: Kind(400, "invalid_request_error", "invalid_grammar"),
    UnknownModel: Kind(404, "invalid_request_error", "model_not_found"),
    UnknownAdapter: Kind(404, "invalid_request_error", "adapter_not_found"),
    UnknownMcpServer: Kind(404, "invalid_request_error", "mcp_server_not_found"),
    Conflict: Kind(409, "invalid_request_error", "conflict"),
    NotThere: Kind(404, "invalid_request_error", "not_found"),
    PreviousResponseNotFound: Kind(400, "invalid_request_error", "previous_response_not_found"),
    ReloadRunning: Kind(409, "invalid_request_error", "reload_running"),
    InvalidSettings: Kind(400, "invalid_request_error", "invalid_settings"),
    ModelNotFound: Kind(404, "invalid_request_error", "file_not_found"),
    ModelCorrupt: Kind(400, "invalid_request_error", "file_corrupt"),
    ModelUnsupported: Kind(400, "invalid_request_error", "model_unsupported"),
    AdapterUnsupported: Kind(400, "invalid_request_error", "adapter_unsupported"),
    DownloadFailed: Kind(502, "server_error", "download_failed"),
    RemoteError: Kind(502, "server_error", "remote_error"),
    RemoteUnreachable: Kind(502, "server_error", "remote_unreachable"),
    HeadTooLarge: Kind(431, "invalid_request_error", "headers_too_large"),
    TooSlow: Kind(408, "invalid_request_error", "request_timeout"),
    BodyTooLarge: Kind(413, "invalid_request_error", "request_too_large"),
    WrongMediaType: Kind(415, "invalid_request_error", "unsupported_media_type"),
    Unauthorized: Kind(401, "authentication_error", "invalid_api_key"),
    Forbidden: Kind(403, "permission_error", "forbidden"),
    ClientGone: Kind(499, "invalid_request_error", "client_closed_request"),
    NotReady: Kind(503, "unavailable_error", "model_not_ready", LOADING_RETRY_S),
    AnswersRunning: Kind(503, "unavailable_error", "answers_running", LOADING_RETRY_S),
    EngineBusy: Kind(503, "unavailable_error", "queue_full"),
    EngineStopped: Kind(503, "unavailable_error", "shutting_down", STOPPING_RETRY_S),
    OutOfMemory: Kind(503, "server_error", "out_of_memory"),
    LogUnwritable: Kind(507, "server_error", "log_unwritable"),
    LogUnreadable: Kind(500, "server_error", "log_unreadable"),
    MissingExtra: Kind(501, "server_error", "missing_extra"),
    QwenkitError: Kind(500, "server_error"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as the client will see it."""

    kind: Kind
    message: str
    param: str | None = None
    retry_after_s: float | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The error object, as the request's clients know it."""
        return _spelling.get()(self)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the status."""
        if self.kind.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        if self.retry_after_s is not None:
            return {"Retry-After": str(max(1, round(self.retry_after_s)))}
        return {}

    def response(self) -> Response:
        """The answer of a request that failed before anything was sent."""
        # Escaped, so that a lone surrogate quoted from the request can be answered too.
        content = json.dumps(self.body, separators=(",", ":"))
        return Response(content, self.kind.status, self.headers, "application/json")


Spelling: TypeAlias = Callable[[Failure], dict[str, Any]]
"""Makes a failure's JSON."""


def _openai_error(failure: Failure) -> dict[str, Any]:
    error = {
        "message": failure.message,
        "type": failure.kind.type,
        "param": failure.param,
        "code": failure.kind.code,
    }
    return {"error": error}


_spelling: ContextVar[Spelling] = ContextVar("error_spelling", default=_openai_error)


@contextmanager
def errors_spelled(spelling: Spelling) -> Iterator[None]:
    """Let the failures of what is done inside have another API's shape."""
    token = _spelling.set(spelling)
    try:
        yield
    finally:
        _spelling.reset(token)


def failure(exc: Exception) -> Failure:
    """How to answer an exception; one that nobody foresaw is logged and shown by an id only."""
    if isinstance(exc, QwenkitError):
        return _foreseen(exc)
    error_id = uuid.uuid4().hex[:12]
    logger.error("unexpected error %s", error_id, exc_info=exc)
    return Failure(Kind(500, "server_error", "internal_error"), f"internal error {error_id}")


def _foreseen(exc: QwenkitError) -> Failure:
    kind = next(KINDS[cls] for cls in type(exc).__mro__ if cls in KINDS)
    retry_after_s = exc.retry_after_s if isinstance(exc, EngineBusy) else kind.retry_after_s
    return Failure(
        kind,
        f"{exc.message}; hint: {exc.hint}" if exc.hint else exc.message,
        exc.param if isinstance(exc, InvalidRequest) else None,
        retry_after_s,
    )


def spell_path(location: Sequence[int | str]) -> str | None:
    """A place in a body as OpenAI spells it: `messages[0].content`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path or None


def install(app: FastAPI) -> None:
    """Answer the failures that routes raise."""
    for foreseen in (QwenkitError, RequestValidationError, HTTPException):
        app.add_exception_handler(foreseen, _answer)


async def _answer(request: Request, exc: Exception) -> Response:
    if isinstance(exc, RequestValidationError):
        return failure(_invalid_body(exc)).response()
    if isinstance(exc, HTTPException):
        return _answer_http(request, exc)
    return failure(exc).response()


def _invalid_body(exc: RequestValidationError) -> InvalidRequest:
    first = exc.errors()[0]
    param = spell_path(first["loc"][1:])
    message = "a JSON body is required" if param is None else f"{param}: {first['msg']}"
    return InvalidRequest(message, param=param)


def _answer_http(request: Request, exc: HTTPException) -> Response:
    messages = {
        404: f"no route {request.url.path}",
        405: f"{request.url.path} does not take {request.method}",
    }
    kind_type = "invalid_request_error" if exc.status_code < 500 else "server_error"
    message = messages.get(exc.status_code, exc.detail)
    response = Failure(Kind(exc.status_code, kind_type), message).response()
    response.headers.update(exc.headers or {})
    return response


class ErrorBoundary:
    """Answers what nobody foresaw with 500 and an id; the traceback goes to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside the boundary."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as exc:
            if started:  # too late for an answer: the connection must break
                raise
            await failure(exc).response()(scope, receive, send)
