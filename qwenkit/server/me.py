"""`/v1/me`: what the caller may do here. It needs no key, so that the page knows to ask for one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

import qwenkit
from qwenkit.server.answers import Me
from qwenkit.server.auth import KeyRing, Role

router = APIRouter(tags=["health"])


@router.get("/v1/me", summary="What the caller may do", responses={200: {"model": Me}})
async def me(request: Request) -> dict[str, Any]:
    """The role that the request's key gives, and what this server has to offer."""
    keys: KeyRing = request.app.state.keys
    role: Role = request.scope["state"]["role"]
    return {
        "role": role.name.lower(),
        "needs_key": keys.needs_key,
        "features": request.app.state.features,
        "version": qwenkit.__version__,
    }
