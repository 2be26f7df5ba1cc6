"""`/admin/reload` and `/admin/status`: another model for a running server, and how it is doing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from qwenkit.server.adapters import MAX_NAME, Adapters, check_name
from qwenkit.server.answers import Reloaded, Status
from qwenkit.server.auth import require_admin
from qwenkit.server.body import StrictRoute
from qwenkit.server.lora import adapter_json
from qwenkit.server.openapi import fails_with
from qwenkit.server.reload import Reloader, ReloadReport
from qwenkit.server.rereading import Rereader, changed_plan
from qwenkit.server.served import ServedModel
from qwenkit.server.serving import Server
from qwenkit.settings import ReloadMode

router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    route_class=StrictRoute,
    dependencies=[Depends(require_admin)],
)


class ReloadBody(BaseModel):
    """The body of `/admin/reload`.

    Beside these fields it takes the settings that say which model is loaded and how, in lower
    case: `model_path`, `runtime_backend`, `n_ctx`, `kv_type`, `n_parallel`, … What is absent stays
    as it is.
    """

    model_config = ConfigDict(strict=True, extra="allow", use_attribute_docstrings=True)

    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    """What clients call the model from then on."""
    mode: Annotated[ReloadMode, Field(strict=False)] | None = None
    """How it gets its room: `auto`, `side_by_side` or `drain`; absent takes RELOAD_MODE."""
    drain_timeout_s: Annotated[float, Field(ge=0)] | None = None
    """Seconds that running answers get to finish before the old model is freed; absent takes
    RELOAD_DRAIN_S."""


@router.post(
    "/reload",
    summary="Serve another model",
    responses={200: {"model": Reloaded}, **fails_with(409, 502)},
)
async def reload(body: ReloadBody, request: Request) -> dict[str, Any]:
    """Answers when the new model serves; a failure leaves the old one and says why."""
    if body.name is not None:
        check_name(body.name)
    rereader: Rereader = request.app.state.rereader
    settings = rereader.settings
    plan = changed_plan(rereader.plan, body.model_extra or {}, name=body.name)
    report = await rereader.reloader.reload(
        plan,
        mode=body.mode or settings.reload_mode,
        drain_timeout_s=(
            settings.reload_drain_s if body.drain_timeout_s is None else body.drain_timeout_s
        ),
    )
    return _report_json(report)


def _report_json(report: ReloadReport) -> dict[str, Any]:
    return {
        "model": report.model.name,
        "mode": report.mode,
        "seconds": round(report.seconds, 3),
        "adapters": [adapter.name for adapter in report.model.engine.adapters.all()],
        "left_out": [asdict(each) for each in report.left_out],
    }


@router.get(
    "/status",
    summary="What is served and what is being loaded",
    responses={200: {"model": Status}},
)
async def status(request: Request, serving: Server) -> dict[str, Any]:
    """The server's state, model, adapters, running reload and last error."""
    reloader: Reloader = request.app.state.reloader
    adapters: Adapters = request.app.state.adapters
    served = serving.served
    return {
        "state": serving.state,
        "model": None if served is None else _served_json(served),
        "retired": [
            {"name": each.model.name, "n_requests": each.n_leases} for each in serving.retired
        ],
        "adapters": [adapter_json(each, serving) for each in serving.adapters],
        "left_out": [asdict(each) for each in adapters.left_out],
        "loading": _loading_json(reloader),
        "last_error": None if reloader.last_error is None else asdict(reloader.last_error),
    }


def _served_json(served: ServedModel) -> dict[str, Any]:
    engine, spec = served.model.engine, served.plan.spec
    return {
        "name": served.model.name,
        "model_path": spec.model_path,
        "description": engine.facts.description,
        "runtime": engine.facts.runtime,
        "fingerprint": engine.facts.fingerprint,
        "n_ctx": engine.capabilities.n_ctx,
        "n_slots": engine.capabilities.n_slots,
        "kv_type": spec.kv_type,
        "since": served.since,
        "n_requests": served.n_leases,
    }


def _loading_json(reloader: Reloader) -> dict[str, Any] | None:
    running = reloader.running
    if running is None:
        return None
    progress = reloader.progress
    return {
        "model_path": running.plan.spec.model_path,
        "mode": running.mode,
        "step": running.step,
        "since": running.since,
        "progress": None if progress is None else asdict(progress),
    }
