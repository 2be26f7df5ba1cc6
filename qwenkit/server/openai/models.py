"""`/v1/models`: what is served. Knows models' facts, not how they are computed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from qwenkit.engine.adapters import Adapter
from qwenkit.server.openai.answers import Model, ModelList
from qwenkit.server.serving import Lease, ServingNow

router = APIRouter(tags=["models"])


@router.get("/v1/models", summary="The served models", responses={200: {"model": ModelList}})
async def list_models(serving: ServingNow) -> dict[str, Any]:
    """The model and its adapters, as OpenAI lists them."""
    adapters = (_adapter_json(adapter, serving) for adapter in serving.adapters)
    return {"object": "list", "data": [_model_json(serving), *adapters]}


# The id may hold slashes (`Qwen/Qwen3-8B`).
@router.get(
    "/v1/models/{model_id:path}", summary="One served model", responses={200: {"model": Model}}
)
async def get_model(model_id: str, serving: ServingNow) -> dict[str, Any]:
    """The model or adapter of that name or alias; 404 when there is none."""
    model = serving.named(model_id)
    if model.adapter is None:
        return _model_json(serving)
    return _adapter_json(serving.adapter(model.name), serving)


def _model_json(serving: Lease) -> dict[str, Any]:
    model = serving.model
    facts = model.engine.facts
    return {
        "id": model.name,
        "object": "model",
        "created": serving.created,
        "owned_by": "qwenkit",
        "root": model.name,
        "parent": None,
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


def _adapter_json(adapter: Adapter, serving: Lease) -> dict[str, Any]:
    return {
        "id": adapter.name,
        "object": "model",
        "created": int(adapter.loaded_at),
        "owned_by": "qwenkit",
        "root": serving.model.name,
        "parent": serving.model.name,
        "aliases": [],
        "meta": {
            "description": f"LoRA of rank {adapter.rank} on {', '.join(adapter.targets)}",
            "version": adapter.version,
            "rank": adapter.rank,
            "alpha": adapter.alpha,
            "targets": list(adapter.targets),
            "n_params": adapter.n_params,
            "size": adapter.size_bytes,
        },
    }
