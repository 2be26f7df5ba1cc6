"""`/v1/rerank`: which documents answer a query best, in the shape of Jina's and Cohere's APIs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from qwenkit.chat.relevance import INSTRUCTION, score
from qwenkit.errors import InvalidRequest
from qwenkit.server.body import StrictRoute
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.openai.schema import MAX_NAME, says
from qwenkit.server.openai.wire import make_id
from qwenkit.server.serving import ServingNow

MAX_DOCUMENTS = 2048
"""Jina's, for one request."""

router = APIRouter(tags=["rerank"], route_class=StrictRoute)


class TextDocument(BaseModel):
    """A document as an object."""

    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)

    text: str
    """Its text."""


Document = Annotated[str | TextDocument, says("must be a string or an object with a text")]


class RerankBody(BaseModel):
    """The body of `/v1/rerank`."""

    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)

    query: str
    """What is looked for."""
    documents: list[Document]
    """Where it may be: strings, or objects with a `text`."""
    model: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """The served model's name, or an adapter's; absent takes the model itself."""
    top_n: Annotated[int, Field(ge=1)] | None = None
    """How many of the best to answer with; absent is all."""
    return_documents: bool | None = None
    """Answer with the documents' texts, too."""
    instruction: str | None = None
    """What a document has to be good for; a field of this server's."""
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
    """What a longer document is cut to; without it, one that does not fit is refused."""


class RankedText(BaseModel):
    """A document."""

    text: str


class RankedDocument(BaseModel):
    """A document's place."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    index: int
    """Which of the documents given it is, from 0."""
    relevance_score: float
    """How surely it answers the query, 0 to 1."""
    document: RankedText | None = None
    """Its text, where that was asked for."""


class RerankUsage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class RerankAnswer(BaseModel):
    """Documents, the best first."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: RerankUsage


@router.post(
    "/v1/rerank",
    summary="Documents by how well they answer a query",
    response_model=RerankAnswer,
    response_model_exclude_none=True,
)
@router.post("/v2/rerank", summary="The same, where Cohere's clients look", include_in_schema=False)
@router.post("/rerank", summary="The same, where Jina's clients look", include_in_schema=False)
async def rerank(body: RerankBody, request: Request, serving: ServingNow) -> dict[str, Any]:
    """Scored by Qwen3-Reranker's recipe; other models of the family score less well."""
    texts = [each if isinstance(each, str) else each.text for each in body.documents]
    if not 1 <= len(texts) <= MAX_DOCUMENTS:
        raise InvalidRequest(
            f"there are {len(texts)} documents; it must be from 1 to {MAX_DOCUMENTS}",
            param="documents",
        )
    model = serving.named(body.model)
    work = score(
        model,
        body.query,
        texts,
        instruction=INSTRUCTION if body.instruction is None else body.instruction,
        max_document_tokens=body.max_tokens_per_doc,
    )
    found = await unless_disconnected(request, work)
    best = sorted(enumerate(found.scores), key=lambda each: -each[1])[: body.top_n]
    return {
        "id": make_id("rerank"),
        "model": model.name,
        "results": [
            {
                "index": index,
                "relevance_score": relevance,
                **({"document": {"text": texts[index]}} if body.return_documents else {}),
            }
            for index, relevance in best
        ],
        "usage": {"prompt_tokens": found.n_prompt, "total_tokens": found.n_prompt},
    }
