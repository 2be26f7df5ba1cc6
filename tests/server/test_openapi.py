"""`/openapi.json`: what it says of every route, and that the routes keep to it."""

import copy

import jsonschema
import pytest
from fastapi.routing import iter_route_contexts

from qwenkit.server import openapi
from qwenkit.server.auth import OPEN_PATHS

UNDOCUMENTED = {"/", "/assets/{name}", "/openapi.json", "/mcp"}
"""The page, this document, and MCP, which describes itself."""


@pytest.fixture(scope="module")
def app(make_shared_app):
    return make_shared_app(api_keys="user-key", admin_api_keys="admin-key")


@pytest.fixture(scope="module")
def operations(app):
    return {
        (method.upper(), path): operation
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_is_described(app, operations):
    routes = {
        (method, route.path_format)
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if getattr(route, "include_in_schema", True) and route.path_format not in UNDOCUMENTED
    }
    assert routes == set(operations)


def test_every_operation_says_what_it_does_in_a_heading_and_in_a_sentence(operations):
    poor = [
        key
        for key, operation in operations.items()
        if not operation.get("summary") or not operation.get("description", "").strip()
    ]
    assert poor == []


def test_every_operation_has_a_name_and_a_group_of_its_own(app, operations):
    names = [operation["operationId"] for operation in operations.values()]
    assert len(names) == len(set(names))
    groups = {tag for operation in operations.values() for tag in operation["tags"]}
    assert groups <= {tag["name"] for tag in app.openapi()["tags"]}
    assert all(len(operation["tags"]) == 1 for operation in operations.values())


def test_every_body_has_a_schema_and_every_field_of_it_a_description(app, operations):
    schemas = app.openapi()["components"]["schemas"]
    for key, operation in operations.items():
        if "requestBody" not in operation:
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        name = str(schema.get("$ref") or schema["items"]["$ref"]).rpartition("/")[2]
        bare = [
            field
            for field, value in schemas[name]["properties"].items()
            if not value.get("description")
        ]
        assert bare == [], f"{key}: {name}"


def test_no_operation_claims_fastapis_own_errors(app, operations):
    assert not any("422" in operation["responses"] for operation in operations.values())
    assert "HTTPValidationError" not in app.openapi()["components"]["schemas"]


def test_every_operation_says_how_it_fails(operations):
    for (_, path), operation in operations.items():
        responses = operation["responses"]
        assert "default" in responses
        assert ("401" in responses) is (path not in OPEN_PATHS)
        assert ("413" in responses) is ("requestBody" in operation)
        for status, response in responses.items():
            if status == "503":
                assert "Retry-After" in response["headers"]
            if status[0] in "45":
                (content,) = response["content"].values()
                name = content["schema"]["$ref"].rpartition("/")[2]
                assert name == ("ErrorOut" if "/messages" in path else "Error")


def test_what_needs_a_key_says_so_and_what_kind(app, operations):
    document = app.openapi()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    for (_, path), operation in operations.items():
        assert bool(operation["security"]) is (path not in OPEN_PATHS)
    roles = {path: operation["x-qwenkit-role"] for (_, path), operation in operations.items()}
    assert roles["/healthz"] == "nobody"
    assert roles["/v1/chat/completions"] == "user"
    assert roles["/admin/reload"] == "admin"
    assert roles["/v1/feedback/stats"] == "admin"


def test_streams_are_declared_where_there_are_streams(operations):
    known = {(method.lower(), path) for method, path in operations}
    assert known >= openapi.STREAMING
    for (method, path), operation in operations.items():
        content = operation["responses"].get("200", {}).get("content", {})
        assert ("text/event-stream" in content) is (
            (method.lower(), path) in openapi.STREAMING or path.endswith("/stream")
        )


def closed(document):
    """The document, with shapes that allow no field they do not name."""
    document = copy.deepcopy(document)
    pending = [document["components"]["schemas"]]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
            if value.get("type") == "object" and isinstance(value.get("properties"), dict):
                value.setdefault("additionalProperties", False)
        elif isinstance(value, list):
            pending += value
    return document


HELLO = {"messages": [{"role": "user", "content": "hello"}]}
ASKED = [
    ("post", "/v1/chat/completions", HELLO | {"logprobs": True, "top_logprobs": 2}),
    ("post", "/v1/completions", {"prompt": "Once upon", "logprobs": 1, "echo": True}),
    ("post", "/v1/embeddings", {"input": ["a", "b"]}),
    ("post", "/v1/embeddings", {"input": "a", "encoding_format": "base64"}),
    ("post", "/v1/rerank", {"query": "a", "documents": ["b", "c"], "return_documents": True}),
    ("post", "/v1/responses", {"input": "hello"}),
    ("post", "/v1/responses/input_tokens", {"input": "hello"}),
    ("post", "/v1/messages", HELLO | {"model": "scripted", "max_tokens": 64}),
    ("post", "/v1/messages/count_tokens", HELLO | {"model": "scripted"}),
    ("get", "/v1/models", None),
    ("get", "/v1/me", None),
    ("get", "/healthz", None),
    ("get", "/readyz", None),
    ("get", "/health", None),
    ("post", "/tokenize", {"content": "a b", "with_pieces": True}),
    ("post", "/tokenize", {"content": "a b"}),
    ("post", "/detokenize", {"tokens": [97, 98]}),
    ("post", "/apply-template", HELLO),
    ("get", "/admin/adapters", None),
    ("get", "/admin/status", None),
    ("get", "/admin/mcp/servers", None),
    ("get", "/lora-adapters", None),
    ("get", "/v1/mcp/tools", None),
    ("get", "/v1/feedback/answers", None),
    ("get", "/v1/feedback/stats", None),
]


class Asker:
    """Asks, and holds every answer against the document."""

    def __init__(self, client, app):
        self.client, self.document = client, closed(app.openapi())

    async def __call__(self, method, path, body=None, **places):
        reply = await self.client.request(method, path.format(**places), json=body)
        responses = self.document["paths"][path.partition("?")[0]][method]["responses"]
        assert reply.status_code < 300, reply.text
        schema = responses[str(reply.status_code)]["content"]["application/json"]["schema"]
        assert schema.get("$ref") or schema["items"]["$ref"], f"{path} is not described"
        whole = {**schema, "components": self.document["components"]}
        jsonschema.Draft202012Validator(whole).validate(reply.json())
        return reply.json()


@pytest.mark.anyio
async def test_answers_are_as_they_are_described_and_have_nothing_else(
    make_app, run, write_adapter, adapters_dir, weather_tool
):
    app = make_app(lora_dirs=[adapters_dir])
    async with run(app) as client:
        ask = Asker(client, app)
        adapter = {"name": "poet", "path": str(write_adapter("poet"))}
        await ask("post", "/admin/adapters", adapter)
        for method, path, body in ASKED:
            await ask(method, path, body)
        weather = {"messages": [{"role": "user", "content": "weather"}], "tools": [weather_tool]}
        answer = await ask("post", "/v1/chat/completions", weather)
        assert answer["choices"][0]["message"]["tool_calls"]
        rating = {"answer_id": answer["id"], "thumb": "up", "thread_id": "t", "scale": 5}
        await ask("post", "/v1/feedback", rating)
        assert (await ask("get", "/v1/feedback/answers"))["data"][0]["ratings"]
        assert (await ask("get", "/v1/feedback/stats"))["adapters"]
        await ask("get", "/v1/feedback/answers/{answer_id}", answer_id=answer["id"])
        kept = await ask("post", "/v1/responses", {"input": "hello", "background": True})
        for verb, path in (
            ("post", "/v1/responses/{response_id}/cancel"),
            ("get", "/v1/responses/{response_id}"),
            ("get", "/v1/responses/{response_id}/input_items"),
            ("delete", "/v1/responses/{response_id}"),
        ):
            await ask(verb, path, response_id=kept["id"])
        await ask("get", "/v1/models/{model_id}", model_id="poet")
        await ask("delete", "/admin/adapters/{name}", name="poet")
        await ask("post", "/admin/reload", {})
