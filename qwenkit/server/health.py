"""Whether the process lives and whether it can answer. Knows nothing of the model but that."""

from __future__ import annotations

from fastapi import APIRouter

from qwenkit.server.answers import Alive, Ready
from qwenkit.server.serving import Server

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process lives", responses={200: {"model": Alive}})
async def healthz() -> dict[str, str]:
    """Always 200: whoever can answer lives."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether requests are taken", responses={200: {"model": Ready}})
@router.get(
    "/health",
    summary="The same, as llama-server spells it",
    responses={200: {"model": Ready}},
)
async def readyz(serving: Server) -> dict[str, str]:
    """200 when a model is loaded or being replaced; 503 before that and during shutdown."""
    return {"status": "ok", "model": serving.ready_name()}
