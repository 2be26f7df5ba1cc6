"""What `/openapi.json` says beside the routes themselves: keys, roles, failures, streams.

FastAPI knows bodies, parameters and answers. Who may call and how a request fails is the same for
all routes, decided by middleware and handlers that it does not see; it is written down here, read
off the routes where they tell it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.requests import Request
from starlette.responses import JSONResponse

from qwenkit.server.auth import OPEN_PATHS, Role, require_admin

JsonObject = dict[str, Any]

TAGS = {
    "chat": "Conversations, as OpenAI has them.",
    "responses": "Conversations made of items, as OpenAI's newer API has them.",
    "messages": "Conversations, as Anthropic has them.",
    "completions": "Raw texts, continued or filled in.",
    "embeddings": "Texts to vectors.",
    "rerank": "Texts by how well they answer a question.",
    "models": "What is served.",
    "tokens": "The tokenizer and the chat template.",
    "adapters": "LoRA adapters, loaded and unloaded while requests run.",
    "admin": "Another model for a running server.",
    "health": "For load balancers and Prometheus.",
    "agent": "The agent, by the protocol of LangGraph's server.",
    "mcp": "The MCP servers whose tools the model may use.",
    "feedback": "What people think of answers.",
}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "One of API_KEYS or ADMIN_API_KEYS.",
    },
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "The same, for clients that spell it so.",
    },
}
ERROR = {
    "title": "Error",
    "description": "Why a request failed, in OpenAI's shape.",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {
                    "type": "string",
                    "description": "A sentence for people, with a hint where there is one.",
                },
                "type": {"type": "string", "description": "What kind of failure."},
                "param": {
                    "type": ["string", "null"],
                    "description": "The place in the body: `messages[0].content`.",
                },
                "code": {
                    "type": ["string", "null"],
                    "description": "Which failure, for programs: `context_length_exceeded`.",
                },
            },
        }
    },
}
STREAMING = frozenset(
    {
        ("post", "/v1/chat/completions"),
        ("post", "/v1/completions"),
        ("post", "/v1/responses"),
        ("get", "/v1/responses/{response_id}"),
        ("post", "/v1/messages"),
        ("post", "/infill"),
    }
)
"""Operations that answer with server-sent events where `stream` says so. Of the agent's, those
whose path ends with `/stream` always do."""
FAILURES = {
    400: "Something in the request can't be; `param` names it.",
    401: "The key is missing or wrong.",
    403: "The key does not allow this.",
    404: "There is nothing of that name or id.",
    408: "The request took too long to arrive.",
    413: "The body is over MAX_REQUEST_BYTES.",
    415: "The body is not declared to be JSON.",
    409: "What is asked for contradicts what is there.",
    431: "The path and the headers are over 64 KiB.",
    502: "Another server that this one asks refuses, or does not answer.",
    503: "Not now: loading, replacing the model, full or stopping. `Retry-After` says when.",
    507: "The log can't be written.",
}
RETRY_AFTER = {
    "description": "Seconds to wait before trying again.",
    "schema": {"type": "integer", "minimum": 1},
}


def fails_with(*statuses: int) -> dict[int | str, JsonObject]:
    """How a route may fail beside what all of its kind may, as its `responses`."""
    return {status: {"description": FAILURES[status]} for status in statuses}


def install(app: FastAPI) -> None:
    """Let the application describe itself in full, at `/openapi.json`."""
    app.openapi = partial(_document, app)  # type: ignore[method-assign]

    async def describe(_: Request) -> JSONResponse:
        # Its first making takes long enough to hold up the streams that run.
        return JSONResponse(await asyncio.to_thread(app.openapi))

    app.add_route("/openapi.json", describe, include_in_schema=False)


def _document(app: FastAPI) -> JsonObject:
    """The document; made once, since routes do not change."""
    if app.openapi_schema is None:
        app.openapi_schema = _described(app)
    return app.openapi_schema


def _described(app: FastAPI) -> JsonObject:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Error"] = ERROR
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    for method, path, operation, route in _operations(app, document):
        _describe(method, path, operation, role_of(route))
    return document


def _operations(
    app: FastAPI, document: JsonObject
) -> Iterator[tuple[str, str, JsonObject, RouteContext]]:
    paths = document["paths"]
    for route in iter_route_contexts(app.routes):
        path = route.path_format or ""
        for method in route.methods or ():
            operation = paths.get(path, {}).get(method.lower())
            if operation is not None:
                yield method.lower(), path, operation, route


def role_of(route: RouteContext) -> Role:
    """The least role that may call a route."""
    if route.path in OPEN_PATHS:
        return Role.NOBODY
    return Role.ADMIN if _asks_for_admin(route.dependant) else Role.USER


def _asks_for_admin(dependant: Dependant) -> bool:
    return any(
        inner.call is require_admin or _asks_for_admin(inner) for inner in dependant.dependencies
    )


def _describe(method: str, path: str, operation: JsonObject, role: Role) -> None:
    operation["x-qwenkit-role"] = role.name.lower()
    operation["security"] = [] if role is Role.NOBODY else [{name: []} for name in SECURITY_SCHEMES]
    responses: JsonObject = operation["responses"]
    responses.pop("422", None)
    _describe_answers(responses)
    _describe_stream(method, path, responses)
    # A route that declares a shape of its own for a wrong request has it for all its failures.
    own = responses.get("400", {}).get("content")
    content = own or {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in _statuses(path, operation, role):
        responses.setdefault(str(status), {"description": FAILURES[status]})
    for code, response in responses.items():
        if code >= "4":
            response.setdefault("content", content)
    if "503" in responses:
        responses["503"].setdefault("headers", {"Retry-After": RETRY_AFTER})
    responses.setdefault("default", {"description": "Any other failure.", "content": content})


def _describe_answers(responses: JsonObject) -> None:
    """Leave a named shape as it is: FastAPI mixes it with what the function's type tells."""
    for response in responses.values():
        for media in response.get("content", {}).values():
            for schema in (media.get("schema", {}), media.get("schema", {}).get("items", {})):
                if (name := schema.get("$ref")) is not None:
                    schema.clear()
                    schema["$ref"] = name


def _describe_stream(method: str, path: str, responses: JsonObject) -> None:
    content = responses.get("200", {}).get("content")
    if content is None:
        return
    events = {"schema": {"type": "string", "description": "Server-sent events."}}
    if path.endswith("/stream"):
        responses["200"]["content"] = {"text/event-stream": events}
    elif (method, path) in STREAMING:
        content["text/event-stream"] = events


def _statuses(path: str, operation: JsonObject, role: Role) -> Iterator[int]:
    yield 400
    if role > Role.NOBODY:
        yield 401
    if role is Role.ADMIN:
        yield 403
    if "{" in path or "requestBody" in operation:
        yield 404
    if "requestBody" in operation:
        yield from (408, 413, 415)
    yield 431
    if path != "/healthz":
        yield 503
