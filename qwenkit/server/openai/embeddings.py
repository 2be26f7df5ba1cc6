"""`/v1/embeddings`: texts to vectors. Knows shapes and encodings; the engine computes."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from qwenkit.backends.base import FloatArray, IntArray, Tokenizer
from qwenkit.errors import InvalidRequest
from qwenkit.server.body import StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.openai.answers import EmbeddingList
from qwenkit.server.openai.schema import MAX_NAME, says
from qwenkit.server.serving import ServingNow
from qwenkit.server.telemetry.generation import embedding_span
from qwenkit.server.tokenizing import check_ids, encode

MAX_TEXTS = 2048
"""OpenAI's, for one request."""

Input = Annotated[
    str | list[str] | list[int] | list[list[int]],
    says("must be a string, a list of strings, a list of token ids or a list of such lists"),
]

router = APIRouter(tags=["embeddings"], route_class=StrictRoute)


class EmbeddingBody(BaseModel):
    """The body of `/v1/embeddings`."""

    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)

    input: Input
    """A text, or several; token ids in their place are taken as they are."""
    model: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """The served model's name; absent takes the one there is."""
    dimensions: int | None = None
    """Keep so many numbers of each vector and bring what is left to length 1 again."""
    encoding_format: Literal["float", "base64"] | None = None
    """`base64` is of little-endian float32."""


@router.post(
    "/v1/embeddings",
    summary="Texts to vectors",
    response_model=None,
    responses={200: {"model": EmbeddingList}},
)
async def embeddings(body: EmbeddingBody, request: Request, serving: ServingNow) -> dict[str, Any]:
    """OpenAI's embeddings API; every vector has length 1."""
    model = serving.named(body.model)
    if model.adapter is not None:
        raise InvalidRequest("embeddings are of the model without adapters", param="model")
    n_embd = model.engine.capabilities.n_embd
    if body.dimensions is not None and n_embd and not 1 <= body.dimensions <= n_embd:
        raise InvalidRequest(
            f"dimensions is {body.dimensions}; it must be from 1 to {n_embd}", param="dimensions"
        )
    texts = await _texts(body.input, model.engine.tokenizer)
    n_tokens = sum(map(len, texts))
    with embedding_span(model, n_tokens=n_tokens, n_dimensions=body.dimensions or n_embd):
        vectors = await unless_disconnected(request, model.engine.embed(texts))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body)}
            for index, vector in enumerate(vectors)
        ],
        "model": model.name,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }


async def _texts(
    given: str | list[str] | list[int] | list[list[int]], tokenizer: Tokenizer
) -> list[IntArray]:
    parts: list[Any] = [given] if isinstance(given, str) or _is_ids(given) else list(given)
    if not 1 <= len(parts) <= MAX_TEXTS:
        raise InvalidRequest(
            f"input holds {len(parts)} texts; it must be from 1 to {MAX_TEXTS}", param="input"
        )
    return [await _tokens(part, tokenizer, index) for index, part in enumerate(parts)]


def _is_ids(given: list[Any]) -> bool:
    return bool(given) and isinstance(given[0], int)


async def _tokens(part: str | list[int], tokenizer: Tokenizer, index: int) -> IntArray:
    param = f"input[{index}]"
    if isinstance(part, str):
        part = await encode(tokenizer, part, special=False)
    else:
        check_ids(tokenizer, part, param=param)
    if not part:
        raise InvalidRequest(f"{param} is empty", param=param)
    return np.array(part, np.int32)


def _encoded(vector: FloatArray, body: EmbeddingBody) -> list[float] | str:
    if body.dimensions is not None:
        vector = vector[: body.dimensions]
        vector = vector / (float(np.linalg.norm(vector)) or 1.0)
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(each) for each in vector]
