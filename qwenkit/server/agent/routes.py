"""Every route of the LangGraph protocol."""

from __future__ import annotations

from fastapi import APIRouter

from qwenkit.server.agent import assistant_routes, info, run_routes, state_routes, thread_routes

router = APIRouter()
for each in (
    info.router,
    assistant_routes.router,
    thread_routes.router,
    state_routes.router,
    run_routes.router,
    run_routes.batches,
):
    router.include_router(each)
