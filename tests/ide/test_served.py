from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import RemoteError, UnknownModel
from qwenkit.ide.served import Served, look

pytestmark = pytest.mark.anyio

MODELS = {
    "data": [
        {"id": "qwen", "aliases": ["q"], "meta": {"n_ctx": 4096}},
        {"id": "mine", "aliases": [], "meta": {}},
    ]
}


def answers(**changes: Any) -> httpx.MockTransport:
    """A server that answers as ours does, but for what is changed; an int is a status."""
    known = {
        "/v1/models": MODELS,
        "/tokenize": {"tokens": [1, 2, 3]},
        "/v1/embeddings": {"data": []},
        "/openapi.json": {"paths": {"/v1/rerank": {}}},
    }
    known |= {f"/{path.replace('_', '/')}": value for path, value in changes.items()}

    def answer(request: httpx.Request) -> httpx.Response:
        value = known[request.url.path]
        if isinstance(value, int):
            return httpx.Response(value, json={"error": {"message": "no"}})
        return httpx.Response(200, content=json.dumps(value))

    return httpx.MockTransport(answer)


async def found(model: str | None = None, **changes: Any) -> Served:
    async with RemoteServer("http://127.0.0.1:1", transport=answers(**changes)) as server:
        return await look(server, model=model)


async def test_what_a_server_can_do_is_found_out() -> None:
    served = await found()
    assert served == Served(
        url="http://127.0.0.1:1/v1",
        model="qwen",
        base="qwen",
        n_ctx=4096,
        fills_in=True,
        embeds=True,
        reranks=True,
    )
    assert served.root == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"tokenize": {"tokens": [1, 2, 3, 4]}}, "fills_in"),
        ({"v1_embeddings": 400}, "embeds"),
        ({"openapi.json": {"paths": {}}}, "reranks"),
    ],
)
async def test_what_it_can_not_do_as_well(changes: dict[str, Any], fact: str) -> None:
    assert getattr(await found(**changes), fact) is False


@pytest.mark.parametrize(("asked", "model"), [("q", "qwen"), ("qwen", "qwen"), ("mine", "mine")])
async def test_a_model_can_be_named_by_an_alias_or_be_an_adapter(asked: str, model: str) -> None:
    served = await found(asked)
    assert (served.model, served.base) == (model, "qwen")


async def test_a_name_that_is_not_served_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownModel) as caught:
        await found("other")
    assert caught.value.hint == "it serves qwen, q, mine"


@pytest.mark.parametrize("listed", [{}, {"data": []}, {"data": [{"id": "llama3"}]}, []])
async def test_another_kind_of_server_is_no_reason_for_a_traceback(listed: Any) -> None:
    with pytest.raises(RemoteError):
        await found(v1_models=listed)
