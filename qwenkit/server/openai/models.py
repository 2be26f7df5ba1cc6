"""`/v1/models`: what is served. Knows the model's facts, not how they are computed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from qwenkit.chat.completion import ChatModel
from qwenkit.server.serving import Serving, ServingNow

router = APIRouter(tags=["models"])


@router.get("/v1/models", summary="The served models")
async def list_models(serving: ServingNow) -> dict[str, Any]:
    """The one model there is, as OpenAI lists them."""
    return {"object": "list", "data": [_model_json(serving.model, serving)]}


# The id may hold slashes (`Qwen/Qwen3-8B`).
@router.get("/v1/models/{model_id:path}", summary="One served model")
async def get_model(model_id: str, serving: ServingNow) -> dict[str, Any]:
    """The model of that name or alias; 404 when there is none."""
    return _model_json(serving.named(model_id), serving)


def _model_json(model: ChatModel, serving: Serving) -> dict[str, Any]:
    facts = model.engine.facts
    return {
        "id": model.name,
        "object": "model",
        "created": serving.created,
        "owned_by": "qwenkit",
        "aliases": list(serving.aliases),
        "meta": {
            "architecture": facts.architecture,
            "description": facts.description,
            "runtime": facts.runtime,
            "fingerprint": facts.fingerprint,
            "n_vocab": model.engine.tokenizer.n_vocab,
            "n_ctx": model.engine.capabilities.n_ctx,
            "n_ctx_train": facts.n_ctx_train,
            "n_params": facts.n_params,
            "n_slots": model.engine.capabilities.n_slots,
            "size": facts.size_bytes,
        },
    }
