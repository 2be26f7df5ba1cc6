"""`/agent/info` and `/agent/ok`: what clients ask first."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter

import qwenkit
from qwenkit.server.agent.service import AgentNow

router = APIRouter(prefix="/agent", tags=["agent"])


@router.get("/info", summary="What the server is")
async def info(agent: AgentNow) -> dict[str, Any]:
    """Versions, and what of the protocol there is."""
    del agent  # asked for so that a server without one says so
    return {
        "version": qwenkit.__version__,
        "langgraph_py_version": version("langgraph"),
        "flags": {"assistants": True, "crons": False, "langsmith": False, "webhooks": False},
        "host": {"kind": "self-hosted"},
    }


@router.get("/ok", summary="Whether the agent can be used")
async def ok(agent: AgentNow) -> dict[str, bool]:
    """The agent's database can be opened."""
    del agent
    return {"ok": True}
