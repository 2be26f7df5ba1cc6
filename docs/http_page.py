"""The page of the docs on HTTP routes, made from the server's own OpenAPI document.

Knows OpenAPI and who may call what; nothing of what the routes do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from qwenkit.server.app import create_app
from qwenkit.server.auth import OPEN_FOLDER, OPEN_PATHS, require_admin
from qwenkit.settings import Settings

Json: TypeAlias = dict[str, Any]

INTRODUCTION = """\
The server describes itself at `/openapi.json`; this page is made from that document.

A key is sent as `Authorization: Bearer KEY` or as `X-Api-Key: KEY`. Each route says which role
it takes: **open** needs no key, **user** one of `API_KEYS`, **admin** one of `ADMIN_API_KEYS`.
Without any key in the settings everyone who reaches the server is its admin, and it listens on
loopback only.

Fields that no table names are ignored. Every answer has `X-Request-Id`; one that the client
sends is kept. [Errors](errors.md) have a page of their own.

Two addresses are not in the document: `/mcp` speaks [MCP over streamable
HTTP](../guides/mcp.md), and `/` with `/assets/` is the [chat page](../guides/chat-ui.md)."""
HEADINGS = {
    "chat": "Chat",
    "completions": "Completions",
    "embeddings": "Embeddings",
    "models": "Models",
    "tokens": "Tokens",
    "adapters": "Adapters",
    "admin": "Administration",
    "health": "Health",
    "agent": "The agent",
    "mcp": "MCP servers",
    "feedback": "Feedback",
}
"""How a tag is written above its routes; other tags stand as they are, with a capital letter."""
NOTES = {
    "chat": (
        "What `/v1/chat/completions` has beyond OpenAI's fields: "
        "[thinking and tools](../guides/thinking-and-tools.md), "
        "[structured output](../guides/structured-output.md), "
        "[tools of MCP servers](../guides/mcp.md#in-v1chatcompletions), "
        "[adapters](../guides/hot-swap.md), and "
        "[what is recorded](../guides/feedback.md#say-more-with-a-request). "
        "A `top_p` below 1 with `top_k` 0 is exact and slow: it sorts the whole vocabulary for "
        "every token."
    ),
    "agent": "The LangGraph server protocol; [the guide](../guides/agent.md) shows how to use it.",
    "feedback": "See [Rate answers](../guides/feedback.md).",
    "adapters": "See [Swap adapters and models](../guides/hot-swap.md).",
}
USUAL = frozenset({"200", "201", "204", "422"})
"""Statuses that need no word: what a call answers, and what FastAPI writes for each route, where
this server answers 400."""


def http_page() -> str:
    """The whole page."""
    app = create_app(Settings(_env_file=None))
    document = app.openapi()
    schemas = document["components"]["schemas"]
    roles = roles_of(app)
    parts = ["# HTTP routes", INTRODUCTION]
    for tag, operations in groupby(_operations(document), key=lambda each: each[2]["tags"][0]):
        parts.append(f"## {HEADINGS.get(tag, tag.capitalize())}")
        if tag in NOTES:
            parts.append(NOTES[tag])
        for method, path, operation in operations:
            parts += _operation(method, path, operation, roles[method, path], schemas)
    parts += _schemas(document, schemas)
    return "\n\n".join(parts) + "\n"


def roles_of(app: FastAPI) -> dict[tuple[str, str], str]:
    """The role that each method of each path takes: `open`, `user` or `admin`."""
    roles = {}
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context.route, "dependant", None)
        calls = [each.call for each in dependant.dependencies] if dependant else []
        for method in context.methods or ():
            roles[method, context.path_format] = _role(context.path, calls)
    return roles


def _role(path: str, calls: list[Any]) -> str:
    if path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
        return "open"
    return "admin" if require_admin in calls else "user"


def _operations(document: Json) -> list[tuple[str, str, Json]]:
    """Method, path and operation of each route, those of one tag together, in the app's order."""
    found = [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    order = list(dict.fromkeys(operation["tags"][0] for _, _, operation in found))
    return sorted(found, key=lambda each: order.index(each[2]["tags"][0]))


def _operation(method: str, path: str, operation: Json, role: str, schemas: Json) -> Iterator[str]:
    yield f"### `{method} {path}`"
    yield f"{operation['summary']}. *{role}*"
    if description := operation.get("description"):
        yield description
    if parameters := operation.get("parameters"):
        rows = [(each["name"], each["schema"], each) for each in parameters]
        yield _table("Parameter", [_row(*row) for row in rows])
    if body := _body(operation):
        yield from _body_table(body, schemas)
    others = {
        status: answer["description"]
        for status, answer in operation["responses"].items()
        if status not in USUAL
    }
    if others:
        yield _rows(("Status", "When"), list(others.items()))


def _body(operation: Json) -> Json | None:
    content = operation.get("requestBody", {}).get("content", {})
    schema: Json | None = next(iter(content.values()), {}).get("schema")
    return schema


def _body_table(body: Json, schemas: Json) -> Iterator[str]:
    schema = _resolved(body, schemas)
    if "properties" in schema:
        yield _table("Field", list(_fields(schema)))
    else:
        yield f"The body is {_type(body)}."


def _schemas(document: Json, schemas: Json) -> Iterator[str]:
    """The objects within bodies that have names."""
    bodies = {_name(body) for *_, each in _operations(document) if (body := _body(each))}
    named = _reached(bodies - {None}, schemas) - bodies
    shown = sorted(name for name in named if schemas[name].get("properties"))
    if not shown:
        return
    yield "## Objects in bodies"
    for name in shown:
        yield f"### `{name}`"
        if description := schemas[name].get("description"):
            yield description
        yield _table("Field", list(_fields(schemas[name])))


def _reached(names: set[Any], schemas: Json) -> set[str]:
    """The schemas that these and those behind them refer to."""
    seen: set[str] = set()
    left = set(names)
    while left:
        name = left.pop()
        seen.add(name)
        left |= set(_references(schemas[name])) - seen
    return seen


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if name := _name(node):
            yield name
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _name(schema: Mapping[str, Any]) -> str | None:
    reference = schema.get("$ref")
    return reference.rpartition("/")[2] if isinstance(reference, str) else None


def _resolved(schema: Json, schemas: Json) -> Json:
    name = _name(schema)
    return schemas[name] if name else schema


def _fields(schema: Json) -> Iterator[tuple[str, str, str]]:
    required = set(schema.get("required", ()))
    for name, field in schema["properties"].items():
        yield _row(name, field, {"required": name in required, **field})


def _row(name: str, schema: Json, facts: Json) -> tuple[str, str, str]:
    words = " ".join((facts.get("description") or "").split())
    if facts.get("required"):
        words = f"**Required.** {words}".strip()
    default = schema.get("default")
    if default not in (None, "", [], {}):
        words = f"{words} Default: `{_spelled(default)}`.".strip()
    return f"`{name}`", _type(schema), words


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(schema: Json) -> str:
    if name := _name(schema):
        return f"`{name}`"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        kinds = dict.fromkeys(_type(each) for each in options if each.get("type") != "null")
        return " or ".join(kinds) or "anything"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return _bounded(schema)


_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


def _bounded(schema: Json) -> str:
    kind = str(schema.get("type", "anything"))
    bounds = [f"{word} {schema[key]:g}" for key, word in _BOUNDS.items() if key in schema]
    return f"{kind}, {', '.join(bounds)}" if bounds else kind


def _table(first: str, rows: list[tuple[str, str, str]]) -> str:
    return _rows((first, "Is", "Does"), rows)


def _rows(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
