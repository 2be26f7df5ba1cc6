"""Every route of `/v1/feedback`."""

from __future__ import annotations

from fastapi import APIRouter

from qwenkit.server.feedback import answers, export, ratings

router = APIRouter()
for each in (ratings.router, answers.router, export.router):
    router.include_router(each)
